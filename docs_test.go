package owner_test

import (
	"os"
	"strings"
	"testing"
)

// docs/stores.md shows the service of ExampleOwner_Epoch as it runs.
func TestDocsShowTheExample(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("example_epoch_test.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("docs/stores.md")
	if err != nil {
		t.Fatal(err)
	}
	_, service, begun := strings.Cut(string(source), "// A shelf is")
	service, _, ended := strings.Cut(service, "\n}\n\n// A service that")
	if shown := "// A shelf is" + service + "\n}\n"; !begun || !ended || !strings.Contains(string(doc), shown) {
		t.Errorf("docs/stores.md does not show\n%s", shown)
	}
}
