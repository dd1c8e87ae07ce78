// Writes a table of the fields of pods and workloads that not every version of Kubernetes has, as Rust: go run . FILE
//
// It reads the source of k8s.io/api in each version, and builds none of it. Feature gates come from the comments of the fields and from
// gates.txt; the version from which a gate is on by default comes from k8s.io/kubernetes.
package main

import (
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"
)

// The first is the oldest version that PodPolicy supports, the last the one whose types it is built with.
var apis = []string{"v0.30.14", "v0.31.14", "v0.32.13", "v0.33.13", "v0.34.4", "v0.35.4", "v0.36.3", "v0.37.2"}

// Each has the history of its feature gates. A gate is removed three versions after it can no longer be turned off.
var kubernetes = []string{"v1.36.3", "v1.37.2"}

// The kinds that make pods.
var roots = []string{
	"core.Pod", "core.PodTemplate", "core.ReplicationController",
	"apps.Deployment", "apps.StatefulSet", "apps.DaemonSet", "apps.ReplicaSet",
	"batch.Job", "batch.CronJob",
}

// What all versions say of a type.
type history struct {
	since, until int
	fields       map[string]*past
}

// What all versions say of a field.
type past struct {
	since, until int
	holds        string
	gate         string
}

func main() {
	if len(os.Args) != 2 {
		fail("usage: go run . FILE")
	}
	types := map[string]*history{}
	for _, version := range apis {
		minor := minorOf(version)
		for name, fields := range reachable(load(version), roots, "") {
			if types[name] == nil {
				types[name] = &history{since: minor, fields: map[string]*past{}}
			}
			types[name].until = minor
			for key, field := range fields {
				known := types[name].fields[key]
				if known == nil {
					known = &past{since: minor}
					types[name].fields[key] = known
				} else if known.until != minor-1 {
					fail("%s.%s left and came back", name, key)
				}
				known.until, known.holds, known.gate = minor, field.holds, field.gate
			}
		}
	}
	gates := gatesOf(types)
	if err := os.WriteFile(os.Args[1], []byte(table(types, gates)), 0o644); err != nil {
		fail("%v", err)
	}
}

// Sets the gate of each field that has one, and returns those gates.
func gatesOf(types map[string]*history) map[string]gate {
	spec := reachable(load(apis[len(apis)-1]), roots, "status")
	ofFields, ofValues := byHand()
	known := knownGates()
	gates := map[string]gate{}
	for _, name := range ofValues {
		if known[name].since == 0 {
			fail("gates.txt: no Kubernetes that is read here has a feature gate %s", name)
		}
		gates[name] = known[name]
	}
	for name, of := range types {
		for key, field := range of.fields {
			path := name + "." + key
			if gate, isNamed := ofFields[path]; isNamed {
				field.gate = gate
				delete(ofFields, path)
			}
			// Nobody writes a status.
			if spec[name] == nil || field.until < minorOf(apis[len(apis)-1]) {
				field.gate = ""
			}
			if field.gate == "" {
				continue
			}
			gate, isKnown := known[field.gate]
			if !isKnown {
				fail("%s: no Kubernetes that is read here has a feature gate %s; name the right one in gates.txt", path, field.gate)
			}
			if gate.on > 0 && gate.on <= field.since {
				// It was on by default ever since the field was there.
				field.gate = ""
				continue
			}
			gates[field.gate] = gate
		}
	}
	for path := range ofFields {
		fail("gates.txt: there is no field %s", path)
	}
	return gates
}

// What gates.txt says: the gates of fields, and gates of values.
func byHand() (ofFields map[string]string, ofValues []string) {
	text, err := os.ReadFile("gates.txt")
	if err != nil {
		fail("%v", err)
	}
	ofFields = map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		switch words := strings.Fields(line); len(words) {
		case 0:
		case 1:
			ofValues = append(ofValues, words[0])
		case 2:
			ofFields[words[0]] = words[1]
		default:
			fail("gates.txt: %q is neither a gate nor a field and its gate", line)
		}
	}
	return ofFields, ofValues
}

// The table as Rust: types with fields that say something, or that lead to such fields.
func table(types map[string]*history, gates map[string]gate) string {
	oldest, newest := minorOf(apis[0]), minorOf(apis[len(apis)-1])
	isNew := func(known *history, field *past) bool { return field.since > known.since }
	isGone := func(known *history, field *past) bool { return field.until < known.until }
	says := func(known *history, field *past) bool {
		return isNew(known, field) || isGone(known, field) || field.gate != ""
	}
	kept := map[string]bool{}
	leads := func(known *history, field *past) bool { return says(known, field) || kept[field.holds] }
	for grown := true; grown; {
		grown = false
		for name, known := range types {
			for _, field := range known.fields {
				if !kept[name] && leads(known, field) {
					kept[name], grown = true, true
				}
			}
		}
	}
	var out strings.Builder
	write := func(format string, values ...any) { fmt.Fprintf(&out, format, values...) }
	write("//! The fields of pods and workloads that not every version of Kubernetes has, and the fields that lead to them.\n")
	write("//! Generated by `just field-versions`: do not edit.\n\n")
	write("use podpolicy_engine::kubernetes::Version;\n\nuse super::{Field, Gate};\n\n")
	write("pub(super) const VERSIONS: [Version; 2] = [Version::new(%d), Version::new(%d)];\n\n", oldest, newest)
	for _, name := range sorted(gates) {
		on := "None"
		if gates[name].on > 0 {
			on = fmt.Sprintf("Some(%d)", gates[name].on)
		}
		write("pub(super) static %s: Gate = Gate::new(%q, %d, %s);\n", constant(name), name, gates[name].since, on)
	}
	write("\n/// The kinds that make pods.\n")
	write("pub(super) static KINDS: [(&str, &[Field]); %d] = [\n", len(roots))
	for _, root := range roots {
		_, kind, _ := strings.Cut(root, ".")
		write("(%q, %s),\n", kind, constant(root))
	}
	write("];\n")
	for _, name := range sorted(types) {
		if !kept[name] {
			continue
		}
		known := types[name]
		write("\nstatic %s: &[Field] = &[\n", constant(name))
		for _, key := range sorted(known.fields) {
			field := known.fields[key]
			if !leads(known, field) {
				continue
			}
			write("Field::new(%q)", key)
			if isNew(known, field) {
				write(".since(%d)", field.since)
			}
			if isGone(known, field) {
				write(".until(%d)", field.until)
			}
			if field.gate != "" {
				write(".gate(&%s)", constant(field.gate))
			}
			if kept[field.holds] {
				write(".holds(%s)", constant(field.holds))
			}
			write(",\n")
		}
		write("];\n")
	}
	return out.String()
}

// core.PodSpec and PodLevelResources as CORE_POD_SPEC and POD_LEVEL_RESOURCES.
func constant(name string) string {
	var out strings.Builder
	letters := []rune(name)
	isUpper := func(at int) bool { return at >= 0 && at < len(letters) && letters[at] >= 'A' && letters[at] <= 'Z' }
	for at, letter := range letters {
		if letter == '.' {
			continue
		}
		startsWord := isUpper(at) && (!isUpper(at-1) || at+1 < len(letters) && !isUpper(at+1))
		if at > 0 && startsWord {
			out.WriteByte('_')
		}
		out.WriteRune(letter)
	}
	return strings.ToUpper(out.String())
}

func sorted[V any](of map[string]V) []string {
	keys := make([]string, 0, len(of))
	for key := range of {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return slices.Clip(keys)
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(2)
}
