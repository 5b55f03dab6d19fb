package etcdstore_test

// An owner that reaches one member, whichever it is, keeps the lease; and a standby that
// reaches one acquires it.
func twoLinksCut(tr *trial) {
	a, others := tr.OwnerAndOthers()
	for _, m := range tr.cluster.Members {
		a.Link.Heal()
		a.Link.Client.Cut(tr.cluster.Others(m)...)
		tr.Renews(a, 3)
	}
	for i, b := range others {
		b.Link.Client.Cut(tr.cluster.Others(tr.cluster.Members[i])...)
	}
	a.Releases()
	tr.Renews(tr.Owner(), 2)
}

// A way of a tenth of the TTL in each direction costs an owner nothing: neither when it
// acquires the lease, nor later. It is more than a single try had to be answered, when each
// was given up for the next.
func farAway(tr *trial) {
	a := tr.Contend()
	a.Link.Lag(tr.TTL / 10)
	tr.Owner()
	tr.Renews(a, 3)
	if n := a.Losses(); n > 0 {
		tr.Errorf("it has lost the lease %d times", n)
	}
}
