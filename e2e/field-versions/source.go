package main

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// A field of one version.
type field struct {
	// The type in it, in its lists or maps, if it is one of those that are read.
	holds string
	gate  string
}

// The declarations of one version, such as core.PodSpec, with the names by which their files import the packages that are read.
type declared struct {
	expression ast.Expr
	imports    map[string]string
	home       string
}

// The packages that are read, and their modules.
var packages = map[string]struct{ module, folder string }{
	"core":  {"k8s.io/api", "core/v1"},
	"apps":  {"k8s.io/api", "apps/v1"},
	"batch": {"k8s.io/api", "batch/v1"},
	"meta":  {"k8s.io/apimachinery", "pkg/apis/meta/v1"},
}

var gateComment = regexp.MustCompile(`\+featureGate=(\w+)`)

func load(version string) map[string]declared {
	all := map[string]declared{}
	for home, place := range packages {
		parsed, err := parser.ParseDir(token.NewFileSet(), filepath.Join(download(place.module, version), place.folder), isSource, parser.ParseComments)
		if err != nil {
			fail("%v", err)
		}
		for _, of := range parsed {
			for _, file := range of.Files {
				for _, declaration := range file.Decls {
					general, isGeneral := declaration.(*ast.GenDecl)
					if !isGeneral || general.Tok != token.TYPE {
						continue
					}
					for _, spec := range general.Specs {
						spec := spec.(*ast.TypeSpec)
						all[home+"."+spec.Name.Name] = declared{spec.Type, importsOf(file), home}
					}
				}
			}
		}
	}
	return all
}

func isSource(file fs.FileInfo) bool {
	return !strings.HasSuffix(file.Name(), "_test.go")
}

func importsOf(file *ast.File) map[string]string {
	imports := map[string]string{}
	for _, spec := range file.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		for home, place := range packages {
			if path == place.module+"/"+place.folder {
				name := filepath.Base(path)
				if spec.Name != nil {
					name = spec.Name.Name
				}
				imports[name] = home
			}
		}
	}
	return imports
}

// The types that can be reached from some, with their fields by their names in JSON. Fields of one name are not followed.
func reachable(all map[string]declared, from []string, except string) map[string]map[string]field {
	found := map[string]map[string]field{}
	for todo := append([]string{}, from...); len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		if found[name] != nil {
			continue
		}
		found[name] = map[string]field{}
		collect(all, name, found[name])
		for key, field := range found[name] {
			if field.holds != "" && key != except {
				todo = append(todo, field.holds)
			}
		}
	}
	return found
}

func collect(all map[string]declared, name string, fields map[string]field) {
	of, isDeclared := all[name]
	if !isDeclared {
		fail("there is no type %s", name)
	}
	structure, isStruct := of.expression.(*ast.StructType)
	if !isStruct {
		return
	}
	for _, entry := range structure.Fields.List {
		tag := ""
		if entry.Tag != nil {
			tag, _ = strconv.Unquote(entry.Tag.Value)
		}
		key, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		holds := resolve(all, of, entry.Type)
		switch isEmbedded := len(entry.Names) == 0; {
		case key == "-":
		case key == "" && isEmbedded && holds != "":
			collect(all, holds, fields)
		case key != "":
			gate := ""
			if match := gateComment.FindStringSubmatch(comments(entry.Doc)); match != nil {
				gate = match[1]
			}
			fields[key] = field{holds, gate}
		}
	}
}

func comments(group *ast.CommentGroup) string {
	var out strings.Builder
	if group != nil {
		for _, comment := range group.List {
			out.WriteString(comment.Text + "\n")
		}
	}
	return out.String()
}

// The struct that an expression is about, in pointers, lists and maps too; empty where it is about none.
func resolve(all map[string]declared, at declared, expression ast.Expr) string {
	name := ""
	switch expression := expression.(type) {
	case *ast.StarExpr:
		return resolve(all, at, expression.X)
	case *ast.ArrayType:
		return resolve(all, at, expression.Elt)
	case *ast.MapType:
		if inner := resolve(all, at, expression.Value); inner != "" {
			fail("maps of structs are not expected, such as %s", inner)
		}
		return ""
	case *ast.Ident:
		name = at.home + "." + expression.Name
	case *ast.SelectorExpr:
		name = at.imports[expression.X.(*ast.Ident).Name] + "." + expression.Sel.Name
	default:
		return ""
	}
	of, isDeclared := all[name]
	if !isDeclared {
		return ""
	}
	if _, isStruct := of.expression.(*ast.StructType); isStruct {
		return name
	}
	return resolve(all, of, of.expression)
}

// What Kubernetes says of a feature gate.
type gate struct {
	// The version that brought it, and the one from which it is on by default; 0 where it is off in the newest.
	since, on int
}

func knownGates() map[string]gate {
	gates := map[string]gate{}
	for _, version := range kubernetes {
		path := filepath.Join(download("k8s.io/kubernetes", version), "pkg/features/kube_features.go")
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			fail("%v", err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			pair, isPair := node.(*ast.KeyValueExpr)
			if !isPair {
				return true
			}
			name, isIdentifier := pair.Key.(*ast.Ident)
			specs, isList := pair.Value.(*ast.CompositeLit)
			// A list of other gates is what the gate depends on.
			if isIdentifier && isList && len(specs.Elts) > 0 {
				if read, isHistory := historyOf(specs); isHistory {
					gates[name.Name] = read
					return false
				}
			}
			return true
		})
	}
	return gates
}

func historyOf(specs *ast.CompositeLit) (gate, bool) {
	var read gate
	for at, spec := range specs.Elts {
		spec, isSpec := spec.(*ast.CompositeLit)
		if !isSpec {
			return gate{}, false
		}
		minor, isOn := -1, false
		for _, element := range spec.Elts {
			pair, isPair := element.(*ast.KeyValueExpr)
			if !isPair {
				return gate{}, false
			}
			switch pair.Key.(*ast.Ident).Name {
			case "Version":
				text, _ := strconv.Unquote(pair.Value.(*ast.CallExpr).Args[0].(*ast.BasicLit).Value)
				minor = minorOf(text)
			case "Default":
				isOn = pair.Value.(*ast.Ident).Name == "true"
			}
		}
		if minor < 0 {
			return gate{}, false
		}
		if at == 0 {
			read.since = minor
		}
		switch {
		case !isOn:
			read.on = 0
		case read.on == 0:
			// Kubernetes 1.0 has gates as well.
			read.on = max(minor, 1)
		}
	}
	return read, true
}

func minorOf(version string) int {
	minor, err := strconv.Atoi(strings.Split(version, ".")[1])
	if err != nil {
		fail("%s: %v", version, err)
	}
	return minor
}

// The folder with the source of a module.
func download(module, version string) string {
	command := exec.Command("go", "mod", "download", "-json", module+"@"+version)
	// A module's own requirements do not count.
	command.Dir = os.TempDir()
	printed, err := command.Output()
	var answer struct{ Dir, Error string }
	if wrong := json.NewDecoder(bytes.NewReader(printed)).Decode(&answer); wrong != nil || answer.Dir == "" {
		fail("%s@%s: %v %v %s", module, version, err, wrong, answer.Error)
	}
	return answer.Dir
}
