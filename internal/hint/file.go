package hint

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// File has hint called when the lease file at path, which is absolute, has been
// replaced, created, removed or renamed, when one of its alive files has been
// removed, renamed or written, and when the second name of one has gone. A lease's
// record that is rewritten in place, as at every renewal, gives no hint.
//
// If the folder goes away, everybody gets a hint; what comes in its place is
// watched from the next call of File for it on, by anybody.
func File(path string, hint func()) (stop func(), err error) {
	dir, base := filepath.Split(path)
	stop, err = watched.subscribe(dir, base, &hint)
	if err != nil {
		return nothing, fmt.Errorf("watching the folder %s: %w", dir, advise(err))
	}
	return stop, nil
}

// watched is one for all: a user has only 128 inotify instances on Linux.
var watched = &watch{folders: map[string]*folder{}, alike: map[identity][]*folder{}}

// A watch holds fsnotify's Watcher while there are subscribers.
type watch struct {
	// using is held over calls of the Watcher. Who receives from it must not wait
	// for using: the Watcher can send an error with the lock held that Add, Remove
	// and Close wait for.
	using sync.Mutex
	alike map[identity][]*folder // the folders by what was last watched; for using

	// mu is held while hints are called, and never over calls of the Watcher.
	// Changing what follows takes using, too.
	mu      sync.Mutex
	source  *source // nil without subscribers
	folders map[string]*folder
}

// A source is one Watcher with the goroutine that receives from it.
type source struct {
	watcher *fsnotify.Watcher
	other   chan *folder  // for folders that have another in their place
	done    chan struct{} // closed when deliver has ended
}

// A folder is watched as a whole: the watch of a file ends when another is renamed
// over it. (On the BSDs and macOS fsnotify opens each of its files, and closes them
// again; that frees no lock, as flock belongs to the opening.)
type folder struct {
	dir   string           // without links, as in the names of the events
	info  os.FileInfo      // of what was last watched; for using
	gone  bool             // it is no longer watched
	files map[string]hints // by the lease's base name
}

func (w *watch) subscribe(dir, base string, hint *func()) (stop func(), err error) {
	// The kernel knows a folder by its inode, and fsnotify reports only one of the
	// names under which it was added.
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	w.using.Lock()
	defer w.using.Unlock()
	f, err := w.add(dir, info)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f.gone = false
	if w.folders[f.dir] == nil {
		w.folders[f.dir] = f
		w.index(f)
	}
	f.files[base] = append(f.files[base], hint)
	return func() { w.unsubscribe(f, base, hint) }, nil
}

func (w *watch) unsubscribe(f *folder, base string, hint *func()) {
	if unused := w.leave(f, base, hint); unused != nil {
		unused.close()
	}
}

// leave returns the source that nobody uses any more. Closing it takes the kernel
// milliseconds (inotify waits for a grace period): the next one to subscribe need
// not wait for that.
func (w *watch) leave(f *folder, base string, hint *func()) (unused *source) {
	w.using.Lock()
	defer w.using.Unlock()
	if !w.forget(f, base, hint) {
		return nil
	}
	w.remove(f)
	return w.unused()
}

// unused takes the source away if it has no folders.
func (w *watch) unused() *source {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.folders) > 0 {
		return nil
	}
	s := w.source
	w.source = nil
	return s
}

func (s *source) close() {
	if s.watcher.Close() == nil {
		<-s.done
	}
}

// remove ends the watch of a folder. fsnotify may close a descriptor twice, which
// by then can be somebody's lock file: with kqueue, if that is left to Close; on
// Windows, if it is not, and an event has just come. There, it is.
func (w *watch) remove(f *folder) {
	if runtime.GOOS != "windows" {
		_ = w.source.watcher.Remove(f.dir)
	}
}

// forget reports whether the hint was the folder's last.
func (w *watch) forget(f *folder, base string, hint *func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest, found := f.files[base].without(hint)
	f.files[base] = rest
	if len(rest) == 0 {
		delete(f.files, base)
	}
	if !found || len(f.files) > 0 { // not found: stopped before
		return false
	}
	delete(w.folders, f.dir)
	w.unindex(f)
	return true
}

// add has the folder watched.
func (w *watch) add(dir string, info os.FileInfo) (*folder, error) {
	f := w.find(dir, info)
	if err := w.open(); err != nil {
		return nil, err
	}
	if !os.SameFile(f.info, info) {
		w.remove(f) // it goes on with what was moved away
		w.goneAway(f)
		w.source.other <- f
		w.unindex(f)
		f.info = info
		w.index(f)
	}
	if !w.needed(f) {
		return f, nil
	}
	if err := w.source.watcher.Add(f.dir); err != nil {
		if unused := w.unused(); unused != nil {
			unused.close()
		}
		return nil, err
	}
	return f, nil
}

// find returns the folder, known or new.
func (w *watch) find(dir string, info os.FileInfo) *folder {
	if f := w.folders[dir]; f != nil {
		return f
	}
	for _, f := range w.alike[identify(info)] { // a bind mount is no link, but has the same inode
		if !os.SameFile(f.info, info) {
			continue
		}
		if now, err := os.Stat(f.dir); err == nil && os.SameFile(now, info) {
			return f
		}
	}
	return &folder{dir: dir, info: info, gone: true, files: map[string]hints{}}
}

// index and unindex let find ask only those folders that may be the same: with
// thousands, asking all for each new one takes seconds.
func (w *watch) index(f *folder) {
	id := identify(f.info)
	w.alike[id] = append(w.alike[id], f)
}

func (w *watch) unindex(f *folder) {
	id := identify(f.info)
	rest := slices.DeleteFunc(w.alike[id], func(g *folder) bool { return g == f })
	if len(rest) == 0 {
		delete(w.alike, id)
		return
	}
	w.alike[id] = rest
}

// needed reports whether the folder is to be added. inotify is asked each time,
// as a new folder can have the inode number of the one that was removed a moment
// ago; elsewhere adding what is watched can lose events, or a descriptor.
func (w *watch) needed(f *folder) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return f.gone || runtime.GOOS == "linux"
}

func (w *watch) open() (err error) {
	if w.source != nil {
		return nil
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.source = &source{watcher: watcher, other: make(chan *folder), done: make(chan struct{})}
	go w.deliver(w.source)
	return nil
}

// deliver ends when the Watcher has closed its channels, in either order.
func (w *watch) deliver(s *source) {
	defer close(s.done)
	events, errs := s.watcher.Events, s.watcher.Errors
	for events != nil || errs != nil {
		select {
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			w.happened(s, e)
		case _, ok := <-errs:
			if !ok {
				errs = nil
				continue
			}
			w.missed(s)
		case f := <-s.other:
			w.tell(f)
		}
	}
}

// happened calls those whom the event concerns.
func (w *watch) happened(s *source, e fsnotify.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.source != s { // its last subscriber has just gone
		return
	}
	if f := w.folders[e.Name]; f != nil && e.Has(fsnotify.Remove|fsnotify.Rename) {
		f.lost()
	}
	f := w.folders[filepath.Dir(e.Name)]
	if f == nil {
		return
	}
	base := filepath.Base(e.Name)
	if e.Has(fsnotify.Create | fsnotify.Remove | fsnotify.Rename) {
		f.files[base].call()
	}
	if e.Has(fsnotify.Remove | fsnotify.Rename | fsnotify.Write | fsnotify.Chmod) {
		f.files[leaseOfAlive(base)].call()
	}
	if lease, ok := strings.CutSuffix(base, ".last"); ok && e.Has(fsnotify.Remove|fsnotify.Rename) {
		f.files[lease].call()
	}
}

// leaseOfAlive returns the lease's name of LEASE.<uuid>.alive, else "".
func leaseOfAlive(name string) string {
	const uuid = len("00000000-0000-0000-0000-000000000000")
	name, ok := strings.CutSuffix(name, ".alive")
	dot := len(name) - uuid - 1
	if !ok || dot < 0 || name[dot] != '.' {
		return ""
	}
	return name[:dot]
}

// missed takes any error for events that are lost, such as the kernel's queue
// overflowing, and for the end of any watch.
func (w *watch) missed(s *source) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.source != s {
		return
	}
	for _, f := range w.folders {
		f.lost()
	}
}

func (w *watch) goneAway(f *folder) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f.gone = true
}

func (w *watch) tell(f *folder) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f.tell()
}

// lost says that the folder is not watched any more.
func (f *folder) lost() {
	f.gone = true
	f.tell()
}

func (f *folder) tell() {
	for _, h := range f.files {
		h.call()
	}
}
