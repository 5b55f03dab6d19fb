package cmdline

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilSignal returns a context that INT and TERM end. The cause is how the
// command then exits: with the code that the shell has for it.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		if !signal.Ignored(sig) { // what was to be ignored stays so
			signal.Notify(signals, sig)
		}
	}
	go func() {
		select {
		case sig := <-signals:
			end(&exit{code: signaled(sig.(syscall.Signal))})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		end(nil)
	}
}

// signaled is the shell's code for what a signal has ended.
func signaled(sig syscall.Signal) int { return 128 + int(sig) }
