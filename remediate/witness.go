package remediate

import (
	"context"
	"time"

	"unbrick/inventory"
)

// A Witness heard of a host by another way than the network between it and us, as the console
// of its sensor does. It proves life where a firewall hides the host from every [Prober].
type Witness interface {
	// SeenAfter returns what shows that Windows was up after since, or the empty string if
	// nothing does. An error means that it could not look.
	SeenAfter(ctx context.Context, h inventory.Host, since time.Time) (evidence string, err error)
}

// A Standing is how a Windows that runs stands.
type Standing struct {
	Started  time.Time // when it was started; zero if it does not say
	SafeMode bool      // it answers, and nobody can work on it
}

// A Voucher asks a Windows that answers how it stands.
type Voucher interface {
	// Vouch fails where it cannot ask: for want of a way in or a credential, as a rule. That
	// says nothing of the host.
	Vouch(ctx context.Context, h inventory.Host) (Standing, error)
}
