package reach

// closeReadIsExact: shutdown(SHUT_RD) on a Unix socket excludes the peer's writes by a
// lock: each is either in the queue before, and can be read, or fails with EPIPE.
const closeReadIsExact = true
