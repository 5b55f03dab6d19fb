package main

import (
	"context"
	"io"

	"github.com/ownerlease/owner"
)

const (
	systemPlain = "plain"
	systemNaive = "naive"
)

func compare(ctx context.Context, out io.Writer, o options, dir string) error { return nil }
func (w *worker) servePlain(ctx context.Context, o *owner.Owner) error        { return nil }
func (w *worker) serveNaive(ctx context.Context, o *owner.Owner) error        { return nil }
