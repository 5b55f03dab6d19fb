//go:build !linux

package hint

import (
	"path/filepath"
	"runtime"

	"github.com/fsnotify/fsnotify"
)

// A source is one fsnotify Watcher with the goroutine that receives from it.
// (On the BSDs and macOS fsnotify opens each file of a folder, and closes it again;
// that frees no lock, as flock belongs to the opening.)
//
// The goroutine must not wait for a call of the Watcher, nor for a lock that is held
// during one: the Watcher can send an error while it holds the lock that Add, Remove and
// Close wait for.
type source struct {
	w       *watch
	watcher *fsnotify.Watcher
	done    chan struct{} // closed when deliver has ended
}

// A mark says whether the Watcher has been given the folder, and has not lost it.
// w.mu guards it.
type mark struct{ watched bool }

func openSource(w *watch) (*source, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	s := &source{w: w, watcher: watcher, done: make(chan struct{})}
	go s.deliver()
	return s, nil
}

// add does nothing for a folder that is watched: adding it again can lose events, or a
// descriptor.
func (s *source) add(f *folder) error {
	if s.marked(f) {
		return nil
	}
	if err := s.watcher.Add(f.dir); err != nil {
		return err
	}
	s.setMark(f, true)
	return nil
}

// follow does nothing: elsewhere only the next renewal finds that the path now leads to
// another folder.
func (s *source) follow(*folder, string) {}

// adjust does nothing: unwanted events are dropped.
func (s *source) adjust(*folder) {}

func (s *source) marked(f *folder) bool {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return f.mark.watched
}

func (s *source) setMark(f *folder, watched bool) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	f.mark.watched = watched
}

// remove ends the watch of a folder. fsnotify may close a descriptor twice, which by then
// can be another file's: with kqueue, if Close removes the watch; on Windows, if Remove
// does just after an event. So Windows leaves it to Close.
func (s *source) remove(f *folder) {
	s.setMark(f, false)
	if runtime.GOOS != "windows" {
		_ = s.watcher.Remove(f.dir)
	}
}

func (s *source) close() {
	if s.watcher.Close() == nil {
		<-s.done
	}
}

// deliver ends when the Watcher has closed its channels, in either order.
func (s *source) deliver() {
	defer close(s.done)
	events, errs := s.watcher.Events, s.watcher.Errors
	for events != nil || errs != nil {
		select {
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			s.happened(e)
		case _, ok := <-errs:
			if !ok {
				errs = nil
				continue
			}
			s.missed()
		}
	}
}

func (s *source) happened(e fsnotify.Event) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.source != s { // its last subscriber has just gone
		return
	}
	if f := s.w.folders[e.Name]; f != nil && e.Has(fsnotify.Remove|fsnotify.Rename) {
		f.lost()
	}
	if f := s.w.folders[filepath.Dir(e.Name)]; f != nil {
		f.happened([]byte(filepath.Base(e.Name)), changeOf(e))
	}
}

func changeOf(e fsnotify.Event) (c change) {
	if e.Has(fsnotify.Create) {
		c |= appeared
	}
	if e.Has(fsnotify.Remove | fsnotify.Rename) {
		c |= vanished
	}
	if e.Has(fsnotify.Write) {
		c |= written
	}
	if e.Has(fsnotify.Chmod) {
		c |= touched
	}
	return c
}

// missed takes any error for events that are lost, and for the end of any watch.
func (s *source) missed() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.source != s {
		return
	}
	for _, f := range s.w.folders {
		f.lost()
	}
}

// lost records that the folder is no longer watched.
func (f *folder) lost() {
	f.mark.watched = false
	f.tell()
}
