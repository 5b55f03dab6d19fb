package run

// A sender is who has sent a message to NOTIFY_SOCKET.
type sender int

const (
	senderStranger sender = iota
	senderOurs            // a process of the command
	senderGone            // it has ended, and been reaped, before it could be looked at
)
