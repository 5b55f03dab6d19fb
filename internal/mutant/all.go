package mutant

// All are the mutants. An Old that does not occur exactly once in its file fails the
// tests: a change of that line must change its mutant here.
var All = []Mutant{
	// Times.
	{
		Name: "renewal counts from its completion", Scenario: "a renewal that takes long",
		File: "fsm.go", Old: "d.validFrom = in.res.op.at", New: "d.validFrom = in.at",
	},
	{
		Name: "acquisition counts from its completion", Scenario: "time passes in a race",
		File: "fsm.go", Old: "d.validFrom, d.err = in.res.acq.From, nil", New: "d.validFrom, d.err = in.at, nil",
	},
	{
		Name: "acquisition counts from after its write", Scenario: "time passes in a race",
		File: "lease_io.go", Old: "return l, from, s.Replace(temp, s.path)", New: "return l, s.Now(), s.Replace(temp, s.path)",
	},
	{
		Name: "late renewal counts", Scenario: "a renewal that takes long",
		File: "fsm.go", Old: "case in.at >= c.fence():\n", New: "case false:\n",
	},
	{
		Name: "late win counts", Scenario: "time passes in a race",
		File: "fsm.go", Old: "case in.at >= res.acq.From+c.ttl-c.margin:", New: "case false:",
		Harmless: "IsOwner asks the clock, and the fence's tick ends such an ownership at once. The clause keeps Join from returning an owner that does not own.",
	},
	{
		Name: "clock is read after the record", Scenario: "a slow challenger",
		File: "lease_read.go", Old: "\t\tnow = s.Now()\n", New: "\t\tdefer func() { now = s.Now() }()\n",
	},
	{
		Name: "expiry is judged early", Scenario: "a slow owner",
		File: "lease_io.go", Old: "s.remaining(seen) <= 0", New: "s.remaining(seen) <= seen.rec.public().TTL/3",
	},
	{
		Name: "IsOwner does not ask the clock", Scenario: "a slow owner",
		File: "snapshot.go", Old: "case a.store.Now() < s.fence:", New: "case true:",
	},
	{
		Name: "lost lease is released at once", Scenario: "the record is removed",
		File: "actor.go", Old: "case left <= 0:", New: "case left <= a.ttl:",
	},

	// Advertisements.
	{
		Name: "advertisement counts as a renewal", Scenario: "an advertisement",
		File: "fsm.go", Old: "d.hinted = d.hinted || in.res.err != nil", New: "d.validFrom = in.at",
	},
	{
		Name: "advertisement loses the heartbeat", Scenario: "an advertisement",
		File: "lease_advertise.go", Old: "err := l.write(rec.diskTail); err != nil {", New: "err := l.write(diskTail{}); err != nil {",
	},
	{
		Name: "failed advertisement stays half done", Scenario: "an advertisement that fails",
		File: "lease_advertise.go", Old: "	old.pad(l.enc.size())\n", New: "",
	},

	// The guard.
	{
		Name: "guard excludes no one", Scenario: "a race",
		File: "lease_guard.go", Old: "g.lock, err = g.store.Lock(g.path(), os.O_RDWR)\n", New: "g.lock, err = g.store.RLock(g.path())\n",
	},
	{
		Name: "guard is not checked when it is taken", Scenario: "the guard is removed",
		File: "lease_guard.go", Old: "if err == nil && same {", New: "if err == nil && (same || true) {",
		Harmless: "The check after the publication finds the same. The clause spares the record of the process that holds the guard in place.",
	},
	{
		Name: "guard is not checked after the publication", Scenario: "the guard is removed",
		File: "lease_io.go", Old: "if same, err := g.inPlace(); err != nil || !same {", New: "if same, err := g.inPlace(); err != nil && !same {",
	},
	{
		Name: "memory of another guard is used", Scenario: "the guard is removed",
		File: "lease_guard.go", Old: "if !g.lock.Is(f) {", New: "if false {",
	},
	{
		Name: "guard's memory is not heeded", Scenario: "the guard is removed",
		File: "lease_io.go", Old: "if s.mayLive(last.InstanceID) {", New: "if false {",
	},

	{
		Name: "guard's epoch is forgotten", Scenario: "the record of a dead owner is removed",
		File: "lease_io.go", Old: "nextEpoch(max(last.Epoch, leftovers.epoch)", New: "nextEpoch(leftovers.epoch",
	},

	// The files.
	{
		Name: "missing record means free", Scenario: "the record is removed",
		File: "lease_io.go", Old: "if seen.damage != nil || seen.rec == nil {", New: "if seen.rec == nil {\n\t\treturn nil, leftovers{}, nil\n\t}\n\tif seen.damage != nil {",
	},
	{
		Name: "alive file's second name is not heeded", Scenario: "two files are removed at once",
		File: "lease_io.go", Old: "if trace.maybe() {", New: "if false {",
	},
	{
		Name: "alive file's second name is not restored", Scenario: "a file and then two are removed",
		File: "lease_io.go", Old: "if l.aliveGone(leasename.Last(l.store.path)) {", New: "if false {",
	},
	{
		Name: "alive file's second name is not another's", Scenario: "a file and then two are removed",
		File: "lease_alive.go", Old: "_ = s.Remove(leasename.Last(s.path)) // of the one before", New: "return nil",
	},
	{
		Name: "second name is removed after the release", Scenario: "two files are removed after a release",
		File: "lease_io.go", Old: "\t\tl.removeLast()\n", New: "\t\tdefer l.removeLast()\n",
	},

	{
		Name: "renewal writes through the path", Scenario: "a slow owner",
		File: "lease_io.go",
		Old:  "\tif err := l.write(diskTail{RenewedAt: l.store.Wall(), Heartbeat: at}); err != nil {\n",
		New:  "\tif f, err := l.store.Open(l.store.path, os.O_RDWR); err != nil {\n\t\treturn err\n\t} else if _, err := f.WriteAt(l.enc.encode(diskTail{RenewedAt: l.store.Wall(), Heartbeat: at}), 0); err != nil {\n",
	},
	{
		Name: "renewal does not check the path", Scenario: "the lease is revoked",
		File: "lease_io.go", Old: "case !ours:", New: "case !ours && false:",
	},
	{
		Name: "alive file is not restored", Scenario: "a file and then two are removed",
		File: "lease_io.go", Old: "if l.aliveGone(leasename.Alive(l.store.path, l.instance)) {", New: "if false {",
	},
	{
		Name: "old alive file proves a death", Scenario: "the alive file is removed",
		File: "lease_alive.go", Old: "if same, err := l.At(path); err != nil || !same {\n\t\treturn unknown", New: "if same, err := l.At(path); err != nil && !same {\n\t\treturn unknown",
	},

	// Clocks that cannot be compared.
	{
		Name: "another boot means dead", Scenario: "an owner of another boot",
		File: "lease_io.go", Old: " && !s.lastAlive().maybe()", New: "",
	},
	{
		Name: "first sight of another heartbeat counts", Scenario: "an owner whose clock is another",
		File: "lease_read.go", Old: "told.heartbeat == h &&", New: "told.Instance == h.Instance &&",
	},
	{
		Name: "first sight is from before its reading", Scenario: "an owner whose clock is another",
		File: "lease_read.go", Old: "max(s.Now(), now)", New: "now",
	},

	// Eviction.
	{
		Name: "killed by a bare pid", Scenario: "a hung owner is evicted",
		File: "kill_holder.go", Old: "if err := p.Kill(); err != nil {",
		New: "if again, err := s.OpenProcess(rec.PID); err != nil {\n\t\treturn err\n\t} else if err := again.Kill(); err != nil {",
	},
	{
		Name: "not looked at anew after the eviction", Scenario: "an eviction that does nothing",
		File: "actor.go", Old: "acq, hung, err := a.acquire()\n",
		New: "acq, hung, err := a.acquire()\n\t\tif hung != nil && res.op.hung != nil {\n\t\t\thung = nil\n\t\t\tacq, err = a.store.Acquire(a.ctx, *a.claim)\n\t\t}\n",
	},
	{
		Name: "not looked at anew under the guard", Scenario: "an eviction that does nothing",
		File: "lease_io.go", Old: "if sparing && leftovers.rec != nil && s.holds(leftovers.rec) {", New: "if false {",
	},
	{
		Name: "not looked at anew before the kill", Scenario: "two evict a hung owner",
		File: "kill_holder.go", Old: "case again == nil:", New: "case again == nil && false:",
	},
	{
		Name: "live owner counts as hung", Scenario: "an eviction of an owner that may renew",
		File: "lease_hung.go", Old: " || s.remaining(seen) > 0 {", New: " {",
	},
	{
		Name: "start of the process is not compared", Scenario: "a hung owner is evicted",
		File: "kill_holder.go", Old: "case started != rec.Started:", New: "case started == \"\":",
		Harmless: "That the alive lock is held after the process is held shows that the pid has not become another's. The clause is for a lock that a forked process holds, and for a record with a wrong pid.",
	},

	// Revocation.
	{
		Name: "revocation copies an old heartbeat", Scenario: "the lease is revoked",
		File: "revoke.go", Old: "enc.encode(last.diskTail)", New: "enc.encode(func(*diskRecord) diskTail { return rec.diskTail }(last))",
	},
	{
		Name: "revocation shows the heartbeat too soon", Scenario: "a revocation that dies",
		File: "revoke.go", Old: "Heartbeat: maxNumber}", New: "Heartbeat: rec.Heartbeat}",
	},
	{
		Name: "revocation does not look at the guard again", Scenario: "a revocation without its guard",
		File: "revoke.go", Old: "if same, err := g.inPlace(); err != nil || !same {", New: "if same, err := g.inPlace(); err != nil && !same {",
		Harmless: "The guard's memory keeps the lease for the owner whose record was replaced. The clause spares that owner its loss.",
	},
	{
		Name: "request asks any owner", Scenario: "a request and a death",
		File: "lease_handover.go", Old: "if err == nil && k == marked && req.Holder == holder {", New: "if err == nil && k == marked {",
	},
}
