package etcdstore_test

// An owner that reaches one member, whichever it is, keeps the lease; and a standby that
// reaches one acquires it.
func twoLinksCut(tr *trial) {
	a, others := ownerAndOthers(tr)
	for _, m := range tr.cluster.Members {
		a.client.Heal()
		a.client.Cut(tr.cluster.Others(m)...)
		tr.renews(a, 3)
	}
	for i, b := range others {
		b.client.Cut(tr.cluster.Others(tr.cluster.Members[i])...)
	}
	a.releases()
	tr.renews(tr.owner(), 2)
}

// A way of a tenth of the TTL in each direction costs an owner nothing: neither when it
// acquires the lease, nor later. It is more than a single try had to be answered, when each
// was given up for the next.
func farAway(tr *trial) {
	a := tr.contend()
	a.client.Lag(tr.ttl / 10)
	tr.owner()
	tr.renews(a, 3)
	if n := len(a.lost); n > 0 {
		tr.Errorf("it has lost the lease %d times", n)
	}
}
