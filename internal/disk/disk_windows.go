package disk

import (
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// openFlags is to be added to the flags of every opening of a file that others
// may have put there. Windows has no FIFOs among files, and needs a privilege to
// make a link.
const openFlags = 0

// open opens through a Root, which shares deletion with other handles: without that, no
// process could replace the file while this handle is open.
func open(path string, flag int, perm fs.FileMode) (*os.File, error) {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, &NotRegularError{Path: path, Mode: info.Mode()}
	}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenFile(filepath.Base(path), flag, perm)
}

// replace renames through a Root, too: that has POSIX semantics where Windows has
// them (10 and later, on NTFS).
func replace(from, to string) error {
	root, err := os.OpenRoot(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer root.Close()
	return root.Rename(filepath.Base(from), filepath.Base(to))
}

// A fileID identifies a file on this machine.
type fileID struct {
	volume uint32
	index  uint64
}

// identify returns no ID of a file of which there is only the info.
func identify(f *os.File, _ fs.FileInfo) fileID {
	if f == nil {
		return fileID{}
	}
	id, _, _ := idOf(windows.Handle(f.Fd()))
	return id
}

func idOf(h windows.Handle) (id fileID, size int64, err error) {
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &info); err != nil {
		return fileID{}, 0, err
	}
	id = fileID{info.VolumeSerialNumber, uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow)}
	return id, int64(info.FileSizeHigh)<<32 | int64(info.FileSizeLow), nil
}

func leadsTo(path string, id fileID) (same bool, size int64, err error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return false, 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	h, err := windows.CreateFile(name, 0, share, nil, windows.OPEN_EXISTING,
		windows.FILE_FLAG_BACKUP_SEMANTICS|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return false, 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer windows.CloseHandle(h)
	there, size, err := idOf(h)
	if err != nil {
		return false, 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return there == id, size, nil
}

func (id fileID) number() uint64 { return id.index }
