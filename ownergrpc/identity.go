package ownergrpc

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
)

// The metadata of calls and answers. Clients in other languages use the same keys.
const (
	instanceKey = "owner-instance" // of a call: the instance id of the owner that it is meant for
	epochKey    = "owner-epoch"    // of a call: that owner's fencing token, in decimal
	begunKey    = "owner-begun"    // a trailer: "no" if the handler has not run, and will not; "yes" if it was interrupted
)

// An identity names one ownership.
type identity struct {
	instance string
	epoch    uint64
}

func (id identity) metadata() metadata.MD {
	return metadata.Pairs(instanceKey, id.instance, epochKey, strconv.FormatUint(id.epoch, 10))
}

// identityOf reads which owner a call is meant for; given is false where it does not say.
func identityOf(md metadata.MD) (id identity, given bool, err error) {
	instances, epochs := md.Get(instanceKey), md.Get(epochKey)
	if len(instances) == 0 && len(epochs) == 0 {
		return identity{}, false, nil
	}
	if len(instances) != 1 || len(epochs) != 1 {
		return identity{}, false, fmt.Errorf("%d values of %s and %d of %s: there must be one of each, or none",
			len(instances), instanceKey, len(epochs), epochKey)
	}
	if !isInstanceID(instances[0]) {
		return identity{}, false, errors.New(instanceKey + " is not a UUID")
	}
	epoch, err := strconv.ParseUint(epochs[0], 10, 64)
	if err != nil || epoch == 0 || strconv.FormatUint(epoch, 10) != epochs[0] {
		return identity{}, false, errors.New(epochKey + " is not a positive decimal number")
	}
	return identity{instances[0], epoch}, true, nil
}

// isInstanceID reports whether s is a UUID as package owner writes it.
func isInstanceID(s string) bool {
	id, err := uuid.Parse(s) // which takes other forms, too
	return err == nil && id.String() == s
}

// saysNotBegun reports whether a trailer says that the handler has not run.
func saysNotBegun(trailer metadata.MD) bool {
	begun := trailer.Get(begunKey)
	return len(begun) == 1 && begun[0] == "no"
}

// withoutIdentity removes what a call's own metadata says of an owner: a server that passes
// its caller's metadata on would otherwise name two owners, its own and the next.
func withoutIdentity(ctx context.Context) context.Context {
	md, ok := metadata.FromOutgoingContext(ctx)
	if !ok || len(md.Get(instanceKey)) == 0 && len(md.Get(epochKey)) == 0 {
		return ctx
	}
	md.Delete(instanceKey) // of a copy
	md.Delete(epochKey)
	return metadata.NewOutgoingContext(ctx, md)
}
