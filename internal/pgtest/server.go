package pgtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// start starts the server on its data, and waits until it takes connections.
func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return nil
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command("postgres", "-D", s.data())
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	s.cmd, s.ended = cmd, ended
	return await("postgres to be ready", func() (bool, error) {
		select {
		case <-ended:
			s.cmd = nil
			return false, fmt.Errorf("postgres has ended: %v", cmd.ProcessState)
		default:
			return s.ready(), nil
		}
	})
}

// ready reports whether the server that runs has written into its file that it takes
// connections: the file can be an earlier server's.
func (s *Server) ready() bool {
	b, _ := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	lines := strings.Split(string(b), "\n")
	return len(lines) > 7 && lines[0] == fmt.Sprint(s.cmd.Process.Pid) && strings.TrimSpace(lines[7]) == "ready"
}

// Kill ends all processes of the server as kill -9 does, and returns when they have gone.
// The data stay: see Restart.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	// The postmaster is stopped first, so that it starts no more processes.
	_ = stop(s.cmd.Process.Pid)
	children := childrenOf(s.cmd.Process.Pid)
	for _, pid := range children {
		_ = kill(pid)
	}
	_ = s.cmd.Process.Kill()
	<-s.ended
	for _, pid := range children {
		_ = await("the server's processes to end", func() (bool, error) { return gone(pid), nil })
	}
	s.cmd, s.stopped = nil, nil
}

// Restart starts the server again on the data that it had. One that runs is ended in order
// before, and its clients' connections end.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	s.shutDown()
	if err := s.start(); err != nil {
		tb.Fatalf("restart postgres: %v\n%s", err, s.log())
	}
}

// shutDown ends the server in order.
func (s *Server) shutDown() {
	s.Cont()
	s.mu.Lock()
	cmd, ended := s.cmd, s.ended
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = interrupt(cmd.Process.Pid) // a "fast" shutdown
	select {
	case <-ended:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cmd = nil
	case <-time.After(limit):
		s.Kill()
	}
}

// Stop stops all processes of the server (SIGSTOP), until Cont: connections stay open,
// new ones are accepted by the kernel, and no request is answered.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	postmaster := s.cmd.Process.Pid
	_ = stop(postmaster)
	s.stopped = append(childrenOf(postmaster), postmaster)
	for _, pid := range s.stopped {
		_ = stop(pid)
	}
}

// Cont ends Stop.
func (s *Server) Cont() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pid := range s.stopped {
		_ = cont(pid)
	}
	s.stopped = nil
}

// Close ends the server, and removes its folder.
func (s *Server) Close() {
	s.Kill()
	_ = os.RemoveAll(s.dir)
}

// Replica starts a streaming replica of this server, which ends with the test, and waits
// until it has all that was committed before the call. Its name is that of its
// application, for synchronous_standby_names: replica1, replica2, …
func (s *Server) Replica(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	r, err := s.replica(settings)
	check(tb, r, err)
	s.Synced(tb, r)
	return r
}

func (s *Server) replica(settings []string) (*Server, error) {
	r, err := prepare()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.replicas++
	name := fmt.Sprintf("replica%d", s.replicas)
	s.mu.Unlock()
	return r.begin(func() error {
		return r.run("pg_basebackup", "-d", s.DSN()+" application_name="+name, "-D", r.data(), "-R", "-X", "stream", "-c", "fast", "--no-sync")
	}, append(settings, "cluster_name = "+name))
}

// Synced waits until a replica has applied all that this server has committed.
func (s *Server) Synced(tb testing.TB, replica *Server) {
	tb.Helper()
	at := s.Exec(tb, "SELECT pg_current_wal_lsn()")
	err := await("the replica", func() (bool, error) {
		is, err := replica.exec(fmt.Sprintf("SELECT pg_last_wal_replay_lsn() >= '%s'", at))
		return is == "t", err
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// Detach ends a replica's replication, so that it does not get what is committed later.
// It still serves reads.
func (s *Server) Detach(tb testing.TB) {
	tb.Helper()
	s.Exec(tb, "ALTER SYSTEM SET primary_conninfo = ''")
	s.Exec(tb, "SELECT pg_reload_conf()")
	err := await("the replication to end", func() (bool, error) {
		n, err := s.exec("SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'")
		return n == "0", err
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// Promote makes a replica a primary, on a new timeline, and returns when it accepts
// writes. The primary before is not touched.
func (s *Server) Promote(tb testing.TB) {
	tb.Helper()
	if s.Exec(tb, "SELECT pg_promote(true, 60)") != "t" {
		tb.Fatal(errors.New("the replica was not promoted"))
	}
}
