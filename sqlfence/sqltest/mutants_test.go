package sqltest

import (
	"flag"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ownerlease/owner/internal/mutant"
)

var withMutants = flag.Bool("mutants", false, "run with a package sqlfence that is broken on purpose")

// Package sqlfence, with what it promises broken in one line, and the test that finds it.
var mutants = []struct {
	mutant.Mutant
	test string
}{
	{mutant.Mutant{
		Name: "SQLite reads without the write lock",
		File: "dialect.go", Old: "lock:    `UPDATE main.owner_fence SET epoch = epoch WHERE", New: "lock:    `SELECT 1 FROM main.owner_fence WHERE",
	}, "TestRaiseWaitsForTransactions"},
	{mutant.Mutant{
		Name: "SQLite lets a former owner in",
		File: "dialect.go", Old: "WHERE lease = ? AND epoch = ? AND version = 1`,", New: "WHERE lease = ? AND epoch >= ? AND version = 1`,",
	}, "TestLaterOwnerFences"},
	{mutant.Mutant{
		Name: "Postgres reads without a lock",
		File: "dialect.go", Old: " FOR SHARE OF owner_fence`,\n", New: "`,\n",
	}, "TestRaiseWaitsForTransactions|TestOldSnapshot"},
	{mutant.Mutant{
		Name: "Postgres locks the key only",
		File: "dialect.go", Old: "FOR SHARE OF owner_fence`", New: "FOR KEY SHARE OF owner_fence`",
	}, "TestOldSnapshot"},
	{mutant.Mutant{
		Name: "Postgres has no queue",
		File: "dialect.go", Old: "turn:    `SELECT pg_advisory_xact_lock(1869508197, ", New: "turn:    `SELECT (1869508197, ",
	}, "TestRaiseIsNotStarved"},
	{mutant.Mutant{
		Name: "MySQL reads without a lock",
		File: "dialect.go", Old: " LOCK IN SHARE MODE`,", New: "`,",
	}, "TestRaiseWaitsForTransactions"},
	{mutant.Mutant{
		Name: "MySQL compares letters",
		File: "dialect.go", Old: "(lease VARBINARY(255) NOT NULL PRIMARY KEY,", New: "(lease VARCHAR(255) NOT NULL PRIMARY KEY,",
	}, "TestNames"},
	{mutant.Mutant{
		Name: "MySQL has no savepoint",
		File: "fence.go", Old: "	if s.dialect == MySQL {\n		if _, err := tx.ExecContext(ctx, \"RELEASE", New: "	if false {\n		if _, err := tx.ExecContext(ctx, \"RELEASE",
	}, "TestFunctionEndsTheTransaction"},
	{mutant.Mutant{
		Name: "the check is not in the transaction",
		File: "fence.go", Old: "if err := f.enter(ctx, tx, s); err != nil {", New: "if err := func() error {\n\t\tother, err := db.BeginTx(ctx, opts)\n\t\tif err != nil {\n\t\t\treturn err\n\t\t}\n\t\tdefer other.Rollback()\n\t\treturn f.enter(ctx, other, s)\n\t}(); err != nil {",
	}, "TestRaiseWaitsForTransactions"},
	{mutant.Mutant{
		Name: "a later owner does not fence",
		File: "fence.go", Old: "	case epoch > f.Epoch:\n", New: "	case false:\n",
	}, "TestLaterOwnerFences"},
	{mutant.Mutant{
		Name: "an owner that has not raised may write",
		File: "fence.go", Old: "	case epoch < f.Epoch:\n", New: "	case false:\n",
	}, "TestLaterOwnerFences"},
	{mutant.Mutant{
		Name: "a refusal for an old snapshot is not explained",
		File: "fence.go", Old: "peeked == nil && epoch > f.Epoch {", New: "peeked == nil && epoch > f.Epoch && false {",
	}, "TestOldSnapshot"},
	{mutant.Mutant{
		Name: "Raise lowers the epoch in SQLite",
		File: "dialect.go", Old: "raise:   `INSERT INTO main.owner_fence (lease, epoch, version) VALUES (?, ?, 1) ON CONFLICT (lease) DO UPDATE SET epoch = excluded.epoch WHERE owner_fence.epoch < excluded.epoch AND", New: "raise:   `INSERT INTO main.owner_fence (lease, epoch, version) VALUES (?, ?, 1) ON CONFLICT (lease) DO UPDATE SET epoch = excluded.epoch WHERE",
	}, "TestLaterOwnerFences"},
	{mutant.Mutant{
		Name: "Raise lowers the epoch in Postgres",
		File: "dialect.go", Old: "VALUES ($1, $2, 1) ON CONFLICT (lease) DO UPDATE SET epoch = excluded.epoch WHERE owner_fence.epoch < excluded.epoch AND", New: "VALUES ($1, $2, 1) ON CONFLICT (lease) DO UPDATE SET epoch = excluded.epoch WHERE",
	}, "TestLaterOwnerFences"},
	{mutant.Mutant{
		Name: "Raise lowers the epoch in MySQL",
		File: "dialect.go", Old: "GREATEST(epoch, VALUES(epoch))", New: "VALUES(epoch)",
	}, "TestLaterOwnerFences"},
	{mutant.Mutant{
		Name: "Raise is as durable as other transactions",
		File: "dialect.go", Old: "set_config('synchronous_commit', 'on', true)", New: "set_config('synchronous_commit', 'off', true)",
	}, "TestRaiseSurvivesACrash"},
	{mutant.Mutant{
		Name: "the version is not heeded",
		File: "fence.go", Old: "case v != version:", New: "case false:",
	}, "TestRowOfAnotherVersion"},
	{mutant.Mutant{
		Name: "the kind of a table is not heeded",
		File: "raise.go", Old: "case kind != s.kind:", New: "case false:",
	}, "TestTablesThatLose"},
	{mutant.Mutant{
		Name: "another request has the same result",
		File: "once.go", Old: "case !bytes.Equal(before, request[:]):", New: "case !bytes.Equal(before, request[:]) && false:",
	}, "TestKeyOfAnotherRequest"},
	{mutant.Mutant{
		Name: "a key that failed is kept",
		File: "once.go", Old: "	return c.failed\n", New: "	return nil\n",
	}, "TestFailedOnce"},
	{mutant.Mutant{
		Name: "a key is not found again",
		File: "once.go", Old: "case done != 0:", New: "case done != 0 && false:",
	}, "TestOnce$"},
}

// The tests can fail: they notice a package that is broken.
func TestMutants(t *testing.T) {
	if !*withMutants {
		t.Skip("takes minutes: run it with go test -C sqlfence/sqltest -run TestMutants . -mutants")
	}
	shared(t, pgServer)
	shared(t, mariaServer)
	for _, m := range mutants {
		t.Run(m.Name, func(t *testing.T) {
			dir := t.TempDir()
			overlay, err := m.Overlay("..", dir)
			if err != nil {
				t.Fatal(err)
			}
			program := filepath.Join(dir, "sqltest.test")
			if out, err := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", program, ".").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			// The time limit is one for tests that a broken package lets hang.
			out, err := exec.Command(program, "-test.timeout", "1m", "-test.run", m.test).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: Test") && !strings.Contains(string(out), "test timed out") {
				t.Errorf("was not noticed: %v\n%s", err, out)
			}
		})
	}
}
