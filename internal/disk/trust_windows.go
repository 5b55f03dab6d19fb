package disk

import (
	"os"

	"golang.org/x/sys/windows"
)

func untrusted(dir string) (string, error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: dir, Err: err}
	}
	if _, err := os.Stat(dir); err != nil {
		return "", err
	}
	volume := make([]uint16, windows.MAX_LONG_PATH)
	if err := windows.GetVolumePathName(path, &volume[0], uint32(len(volume))); err != nil {
		return "", &os.PathError{Op: "GetVolumePathName", Path: dir, Err: err}
	}
	if windows.GetDriveType(&volume[0]) == windows.DRIVE_REMOTE {
		return "a network drive", nil
	}
	return "", nil
}
