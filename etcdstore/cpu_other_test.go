//go:build !unix

package etcdstore

import "time"

func processTime() time.Duration { return 0 }
