package start_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/start"
)

// A client that needs the owner's endpoint, whether or not a server runs.
func ExampleEnsure() {
	endpoint := func(ctx context.Context, path string) (string, error) {
		store, err := owner.FileStore(path)
		if err != nil {
			return "", err
		}
		rec, err := start.Ensure(ctx, store, start.Command{
			Path: "modeld", Args: []string{"--lease", path}, Log: path + ".log",
		})
		var failed *start.StartError
		switch {
		case errors.As(err, &failed):
			return "", fmt.Errorf("modeld: %w", failed) // with its exit status, and the end of its log
		case err != nil:
			return "", err
		}
		return rec.Meta[owner.EndpointMetaKey], nil
	}
	_ = endpoint
}
