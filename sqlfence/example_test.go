package sqlfence_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/reach"
	"github.com/ownerlease/owner/sqlfence"
)

// A service whose requests take effect once, over the death of its owner: reach sends
// those that have an Idempotency-Key to the next owner, and Once knows them.
func Example() {
	serve := func(ctx context.Context, path string, db *sql.DB) error {
		s := &reach.Server{Prepare: func(ctx context.Context, o *owner.Owner) (http.Handler, error) {
			fence := sqlfence.Fence{Lease: "jobs", Epoch: o.Epoch(), Dialect: sqlfence.SQLite}
			return jobs(db, fence), fence.Raise(ctx, db)
		}}
		return owner.Run(ctx, owner.Config{LeasePath: path}, s.Serve)
	}
	_ = serve
}

// jobs is the handler of one ownership.
func jobs(db *sql.DB, fence sqlfence.Fence) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx := sqlfence.WithRequest(r.Context(), fmt.Appendf(nil, "%s %s\n%s", r.Method, r.URL.Path, body))
		var answer []byte
		err = fence.Tx(ctx, db, nil, func(tx *sql.Tx) error {
			answer, err = sqlfence.Once(ctx, tx, r.Header.Get("Idempotency-Key"), func() ([]byte, error) {
				_, err := tx.ExecContext(ctx, "INSERT INTO jobs (body) VALUES (?)", body)
				return []byte("queued"), err
			})
			return err
		})
		switch {
		case errors.Is(err, sqlfence.ErrInvalid):
			http.Error(w, err.Error(), http.StatusBadRequest)
		case errors.Is(err, sqlfence.ErrKeyReused):
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		default:
			_, _ = w.Write(answer)
		}
	})
}
