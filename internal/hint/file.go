package hint

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/ownerlease/owner/internal/leasename"
)

// File calls hint when the lease file at path, which is absolute, has been
// replaced, created, removed or renamed; when one of its alive files has been
// removed, renamed, touched or, on Linux, closed after it was open for writing (on
// other systems: written); when the second name of an alive file has gone; and when a
// request for a handover has appeared. A record that is rewritten in place, as at every
// renewal, gives no hint.
//
// If the folder goes away, all its subscribers get a hint; what comes in its place is
// watched from the next call of File for it on, for all of them.
func File(path string, hint func()) (stop func(), err error) {
	return subscribe(path, always(hint))
}

// FileUntil is File until a hint returns that it is the last: the caller will poll later,
// and needs no more until then. Else, of many processes that notice one change, each
// would be woken by every further one, and so delay the one that acts. Where no
// subscriber of a folder wants more, Linux is asked for fewer events. With successors, it
// begins with fewer: hint is called when another file becomes the record, at an
// advertisement, and at a request for a handover, and not at the end of an owner or a
// release.
func FileUntil(path string, successors bool, hint func() (last bool)) (stop func(), err error) {
	return subscribe(path, &subscriber{hint: hint, successors: successors})
}

func subscribe(path string, hint *subscriber) (stop func(), err error) {
	dir, base := filepath.Split(path)
	stop, err = watched.subscribe(dir, base, hint)
	if err != nil {
		return nothing, fmt.Errorf("watching the folder %s: %w", dir, advise(err))
	}
	return stop, nil
}

// watched is one for all: a user has only 128 inotify instances on Linux.
var watched = &watch{folders: map[string]*folder{}, alike: map[identity][]*folder{}}

// A watch holds the operating system's source of events while there are subscribers.
type watch struct {
	// using is held over calls of the source. The source's goroutine must not wait for
	// using: see source.
	using sync.Mutex
	alike map[identity][]*folder // the folders by what was last watched; for using

	// mu is held while hints are called. Changing what follows takes using, too.
	mu      sync.Mutex
	source  *source // nil without subscribers
	folders map[string]*folder
}

// A folder is watched as a whole: the watch of a file ends when another is renamed
// over it.
type folder struct {
	dir   string           // without links
	info  os.FileInfo      // of what was last watched; for using
	mark  mark             // what the source keeps for it
	files map[string]hints // by the lease's base name
	// joined by a subscriber that is not yet among the files.
	joined bool
}

func (w *watch) subscribe(way, base string, hint *subscriber) (stop func(), err error) {
	// The kernel knows a folder by its inode, not by one of the paths that lead to it.
	dir, err := filepath.EvalSymlinks(way)
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
	w.source.follow(f, way)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.folders[f.dir] == nil {
		w.folders[f.dir] = f
		w.index(f)
	}
	f.files[base] = append(f.files[base], hint)
	f.joined = false
	w.source.adjust(f)
	return func() { w.unsubscribe(f, base, hint) }, nil
}

func (w *watch) unsubscribe(f *folder, base string, hint *subscriber) {
	if unused := w.leave(f, base, hint); unused != nil {
		unused.close()
	}
}

// leave returns the source if it has no folders left. Closing it takes the kernel
// milliseconds (inotify waits for a grace period): the next one to subscribe need
// not wait for that.
func (w *watch) leave(f *folder, base string, hint *subscriber) (unused *source) {
	w.using.Lock()
	defer w.using.Unlock()
	if !w.forget(f, base, hint) {
		return nil
	}
	w.source.remove(f)
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

// forget reports whether the hint was the folder's last.
func (w *watch) forget(f *folder, base string, hint *subscriber) bool {
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

// add watches the folder.
func (w *watch) add(dir string, info os.FileInfo) (*folder, error) {
	f := w.find(dir, info)
	if err := w.open(); err != nil {
		return nil, err
	}
	if !os.SameFile(f.info, info) {
		w.source.remove(f) // its watch follows what was moved away
		w.tell(f)
		w.unindex(f)
		f.info = info
		w.index(f)
	}
	w.mu.Lock()
	f.joined = true
	w.mu.Unlock()
	if err := w.source.add(f); err != nil {
		w.mu.Lock()
		f.joined = false
		w.mu.Unlock()
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
	return &folder{dir: dir, info: info, files: map[string]hints{}}
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

func (w *watch) open() error {
	if w.source != nil {
		return nil
	}
	s, err := openSource(w)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.source = s
	return nil
}

// A change is what has happened to a name in a folder, as far as it matters here.
type change uint8

const (
	appeared change = 1 << iota // made, or renamed to this name
	vanished                    // removed, or renamed to another name
	written                     // its writer has closed it; or, where that is not reported, has written
	touched                     // other times or rights: of an alive file, its owner has advertised
)

// happened calls the subscribers that a change concerns. w.mu is held. The name is not kept,
// and most names concern none of the subscribers: for these nothing is allocated.
func (f *folder) happened(name []byte, c change) {
	switch {
	case c&appeared != 0:
		f.files[string(name)].callWho(newRecords)
	case c&vanished != 0:
		f.files[string(name)].callWho(everything)
	}
	if lease, ok := leaseOfAlive(name); ok {
		switch {
		case c&touched != 0:
			f.files[string(lease)].callWho(newRecords)
		case c&(vanished|written) != 0:
			f.files[string(lease)].callWho(everything)
		}
	}
	if lease, ok := bytes.CutSuffix(name, lastSuffix); ok && c&vanished != 0 {
		f.files[string(lease)].callWho(everything)
	}
	if lease, ok := bytes.CutSuffix(name, handoverSuffix); ok && c&appeared != 0 {
		f.files[string(lease)].callWho(newRecords)
	}
}

var (
	aliveSuffix    = []byte(leasename.AliveSuffix)
	lastSuffix     = []byte(leasename.LastSuffix)
	handoverSuffix = []byte(leasename.HandoverSuffix)
)

// leaseOfAlive returns the lease's name of LEASE.<uuid>.alive.
func leaseOfAlive(name []byte) (lease []byte, ok bool) {
	const uuid = len("00000000-0000-0000-0000-000000000000")
	name, ok = bytes.CutSuffix(name, aliveSuffix)
	dot := len(name) - uuid - 1
	if !ok || dot < 0 || name[dot] != '.' {
		return nil, false
	}
	return name[:dot], true
}

func (w *watch) tell(f *folder) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f.tell()
}

// wants is the most that a subscriber wants. w.mu is held.
func (f *folder) wants() (most want) {
	if f.joined {
		return everything
	}
	for _, all := range f.files {
		for _, l := range all {
			if most = max(most, l.wants()); most == everything {
				return most
			}
		}
	}
	return most
}

// tell gives all of the folder's subscribers a hint. w.mu is held.
func (f *folder) tell() {
	for _, h := range f.files {
		h.call()
	}
}
