package cmdline

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ownerlease/owner"
)

// A schema is what the schemas in docs use of JSON Schema; others of its keywords are refused.
type schema struct {
	Schema      string             `json:"$schema"`
	Title       string             `json:"title"`
	Description string             `json:"description"`
	Type        any                `json:"type"`
	Properties  map[string]*schema `json:"properties"`
	Required    []string           `json:"required"`
	Additional  any                `json:"additionalProperties"`
	Enum        []string           `json:"enum"`
	Pattern     string             `json:"pattern"`
	MinLength   int                `json:"minLength"`
	Minimum     *float64           `json:"minimum"`
}

func readSchema(t *testing.T, name string) *schema {
	t.Helper()
	text, err := os.Open("../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	d := json.NewDecoder(text)
	d.DisallowUnknownFields()
	var s schema
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case map[string]any:
		return "object"
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			return "integer"
		}
	}
	return "number"
}

func (s *schema) check(v any) error {
	kinds := strings.Fields(strings.Trim(fmt.Sprint(s.Type), "[]"))
	if !slices.Contains(kinds, kindOf(v)) {
		return fmt.Errorf("%v is of type %s, want %v", v, kindOf(v), kinds)
	}
	switch v := v.(type) {
	case string:
		return s.checkString(v)
	case json.Number:
		if f, err := v.Float64(); err != nil || s.Minimum != nil && f < *s.Minimum {
			return fmt.Errorf("%v is too small, or no number: %v", v, err)
		}
	case map[string]any:
		return s.checkObject(v)
	}
	return nil
}

func (s *schema) checkString(v string) error {
	if s.Enum != nil && !slices.Contains(s.Enum, v) || len(v) < s.MinLength || s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) {
		return fmt.Errorf("%q does not fit %+v", v, *s)
	}
	return nil
}

func (s *schema) checkObject(v map[string]any) error {
	for _, key := range s.Required {
		if _, ok := v[key]; !ok {
			return fmt.Errorf("%s is missing", key)
		}
	}
	for key, value := range v {
		p := s.Properties[key]
		if p == nil && s.Additional == false {
			return fmt.Errorf("%s is not in the schema", key)
		}
		if p == nil {
			p = &schema{Type: "string"} // as meta has it
		}
		if err := p.check(value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

func (s *schema) checkPrinted(print func(io.Writer) error) error {
	var b strings.Builder
	if err := print(&b); err != nil {
		return err
	}
	d := json.NewDecoder(strings.NewReader(b.String()))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return err
	}
	return s.check(v)
}

// keysOf are the JSON keys of a struct.
func keysOf(t reflect.Type) (keys []string) {
	for _, f := range reflect.VisibleFields(t) {
		if !f.Anonymous {
			keys = append(keys, f.Tag.Get("json"))
		}
	}
	slices.Sort(keys)
	return keys
}

// The schemas have the keys that are printed, and no others.
func TestSchemaHasTheKeys(t *testing.T) {
	t.Parallel()
	for name, printed := range map[string]reflect.Type{"status.schema.json": reflect.TypeFor[jsonReport](), "watch.schema.json": reflect.TypeFor[jsonChange]()} {
		s, want := readSchema(t, name), keysOf(printed)
		required := slices.Sorted(slices.Values(s.Required))
		if got := slices.Sorted(maps.Keys(s.Properties)); !slices.Equal(got, want) || !slices.Equal(required, want) || s.Additional != false {
			t.Errorf("%s: %v, required %v; printed are %v", name, got, required, want)
		}
	}
}

// What is printed fits the schemas, in each condition and with what is not known.
func TestOutputFitsTheSchema(t *testing.T) {
	t.Parallel()
	status, watch := readSchema(t, "status.schema.json"), readSchema(t, "watch.schema.json")
	conditions := []owner.Condition{owner.Live, owner.Unconfirmed, owner.Hung, owner.Dead, owner.Expired, owner.Released, owner.Revoked, none, unreadable}
	for _, c := range conditions {
		full := sample(c)
		for _, r := range []*report{full, {lease: "/l", damage: "boom", Status: owner.Status{Condition: c}}, {lease: "/l", Status: owner.Status{Condition: c, Record: owner.Record{InstanceID: "i"}}}} {
			if err := status.checkPrinted(func(w io.Writer) error { return r.json(w, time.Now()) }); err != nil {
				t.Errorf("%s: %v", c, err)
			}
		}
	}
	if got := slices.Clone(status.Properties["condition"].Enum); len(got) != len(conditions) {
		t.Errorf("the conditions are %v", got)
	}
	rec := sample(owner.Live).Record
	for _, c := range []*change{
		{lease: "/l", at: time.Now(), owner: rec}, {lease: "/l", at: time.Now(), before: rec}, {lease: "/l", at: rec.AcquiredAt.Add(time.Hour), before: rec},
		{lease: "/l", at: time.Now(), err: errors.New("boom")}, {lease: "/l", at: time.Now(), owner: owner.Record{InstanceID: "i"}},
	} {
		if err := watch.checkPrinted(c.json); err != nil {
			t.Error(err)
		}
	}
}

// The checker finds what does not fit.
func TestSchemaRefuses(t *testing.T) {
	t.Parallel()
	s := readSchema(t, "status.schema.json")
	for key, wrong := range map[string]string{"condition": `"fine"`, "ttl": `"soon"`, "expires": `"2030-01-02"`, "pid": `"1"`, "epoch": `-1`, "meta": `{"a":1}`, "lease": `""`, "owned": `null`, "more": `1`} {
		err := s.checkPrinted(func(w io.Writer) error {
			var fields map[string]json.RawMessage
			b, _ := json.Marshal(sample(owner.Live).object(time.Now()))
			_ = json.Unmarshal(b, &fields)
			fields[key] = json.RawMessage(wrong)
			return json.NewEncoder(w).Encode(fields)
		})
		if err == nil {
			t.Errorf("%s: %s fits", key, wrong)
		}
	}
}
