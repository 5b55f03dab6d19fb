package owner_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ownerlease/owner"
)

// A shelf is a storage service for the owners of one lease. It refuses a lower
// epoch than it has seen.
type shelf struct {
	mu    sync.Mutex
	epoch uint64 // kept as durably as the document, and changed in one step with it
	doc   []byte
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	epoch, err := strconv.ParseUint(r.Header.Get("Owner-Epoch"), 10, 64)
	if err != nil {
		http.Error(w, "a request must say its epoch", http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender has gone
	}
	s.mu.Lock() // from here on, it is one step
	defer s.mu.Unlock()
	if epoch < s.epoch {
		http.Error(w, "an owner of the past", http.StatusConflict)
		return
	}
	s.epoch = epoch // also by a read: what an owner has read, no earlier owner can change
	if r.Method == http.MethodPut {
		s.doc = body
	}
	_, _ = w.Write(s.doc)
}

// A service that gets the epoch refuses what a former owner has sent, however late it
// comes.
func ExampleOwner_Epoch() {
	path, remove := tempLease()
	defer remove()
	cfg := owner.Config{LeasePath: path, TTL: 10 * time.Second}
	var service shelf
	call := func(method string, epoch uint64, doc string) {
		r := httptest.NewRequest(method, "/", strings.NewReader(doc))
		r.Header.Set("Owner-Epoch", strconv.FormatUint(epoch, 10))
		w := httptest.NewRecorder()
		service.ServeHTTP(w, r)
		fmt.Println(method, w.Code, strings.TrimSpace(w.Body.String()))
	}

	first, err := owner.Join(context.Background(), cfg)
	if err != nil {
		log.Fatal(err)
	}
	call("PUT", first.Epoch(), "the first one's")
	first.Release()

	second, err := owner.Join(context.Background(), cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer second.Release()
	call("GET", second.Epoch(), "") // before it relies on anything
	call("PUT", first.Epoch(), "sent in time, and held up on its way")
	call("PUT", second.Epoch(), "the second one's")
	// Output:
	// PUT 200 the first one's
	// GET 200 the first one's
	// PUT 409 an owner of the past
	// PUT 200 the second one's
}
