// Command desktop is a program of which each user has one instance: the first opens its
// files and stays, as a window would; later ones have it open theirs, and end.
//
//	desktop letter.txt &
//	desktop photo.png     # is opened by the first
//
// It does not matter how many start at once, nor whether the first is killed while another
// starts: one of them owns the lease, and the files are opened there.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/reach"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

// run opens the files, here or in the instance that there is.
func run(ctx context.Context, files []string) error {
	lease, err := leasePath()
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	client := &reach.Client{LeasePath: lease}
	defer client.Close()
	node := &reach.Node{
		Config: owner.Config{LeasePath: lease, TTL: 10 * time.Second},
		Server: &reach.Server{Handler: http.HandlerFunc(open)},
		Client: client,
	}
	ended := make(chan error, 1)
	go func() {
		ended <- node.Run(ctx)
		end() // where the lease cannot be used, nothing would be answered
	}()
	by, err := send(ctx, client, files)
	if err == nil && by == os.Getpid() {
		return <-ended // the window is here
	}
	end()
	if err == nil {
		fmt.Println("opened by the instance that runs already")
	}
	if failed := <-ended; !errors.Is(failed, context.Canceled) {
		err = errors.Join(failed, err)
	}
	return err
}

// leasePath is a file of this user, on this machine.
func leasePath() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "desktop-example")
	return filepath.Join(dir, "lease"), os.MkdirAll(dir, 0o700)
}

// send has the owner open the files, whichever process that is, and returns its pid. The
// key lets it be asked again, should the owner die meanwhile: opening twice is no harm.
func send(ctx context.Context, client *reach.Client, files []string) (pid int, err error) {
	for i, f := range files {
		if files[i], err = filepath.Abs(f); err != nil {
			return 0, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://desktop/open", strings.NewReader(strings.Join(files, "\n")))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Idempotency-Key", strconv.Itoa(os.Getpid()))
	resp, err := (&http.Client{Transport: client}).Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(answer))
}

// open shows the files, and answers with its pid when it has.
func open(w http.ResponseWriter, r *http.Request) {
	files, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	for f := range strings.Lines(string(files)) {
		fmt.Println("showing", filepath.Base(strings.TrimSpace(f)))
	}
	fmt.Fprint(w, os.Getpid())
}
