package ownertest_test

import (
	"context"
	"fmt"
	"time"

	"github.com/ownerlease/owner"
	"github.com/ownerlease/owner/ownertest"
)

// A service does something each second that only one may do at a time. It needs some
// time to stop.
type service struct {
	name     string
	store    owner.Store
	do       func(service string, epoch uint64)
	windDown time.Duration
}

// ttl leaves a quarter of it, the default SafetyMargin, to wind down.
const ttl = 20 * time.Second

func (s *service) run(ctx context.Context) error {
	return owner.Run(ctx, owner.Config{Store: s.store, TTL: ttl}, s.work)
}

func (s *service) work(ctx context.Context, o *owner.Owner) error {
	s.do(s.name+" starts", o.Epoch())
	each := time.NewTicker(time.Second)
	defer each.Stop()
	for {
		select {
		case <-each.C:
			s.do(s.name, o.Epoch())
		case <-ctx.Done():
			time.Sleep(s.windDown) // flushing, closing
			s.do(s.name+" has stopped", o.Epoch())
			return context.Cause(ctx)
		}
	}
}

// Whether a service stops when it loses the lease, here to another instance. See
// service_test.go for a test in simulated time.
func ExampleMemory() {
	store := ownertest.NewMemory()
	did := make(chan string)
	s := service{name: "a", store: store, do: func(what string, epoch uint64) { did <- fmt.Sprint(what, ", epoch ", epoch) }}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.run(ctx) }()

	fmt.Println(<-did)
	store.TakeOver()
	fmt.Println(<-did)

	stop() // or it would own again, a TTL later
	<-ended
	// Output:
	// a starts, epoch 1
	// a has stopped, epoch 1
}
