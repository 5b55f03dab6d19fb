package owner_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The links of the documents lead to files that are there.
func TestDocsLinkToFiles(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir("docs", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			pages = append(pages, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`) // with a colon, it leads elsewhere
	links := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
	if links < 50 {
		t.Errorf("%d links in %d pages were found", links, len(pages))
	}
}

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
