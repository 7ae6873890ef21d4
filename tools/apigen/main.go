// Apigen makes the packages of internal/api from the service models: Go structs
// for the operations of each allow-list, and static schema tables for package
// wire. See README.md.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	models := flag.String("models", os.Getenv("SKERRY_MODELS"), "folder of the service models (default $SKERRY_MODELS)")
	services := flag.String("services", "tools/apigen/services", "folder of the allow-lists")
	out := flag.String("out", "internal/api", "folder of the generated packages")
	flag.Parse()
	if err := run(*models, *services, *out); err != nil {
		fmt.Fprintln(os.Stderr, "apigen:", err)
		os.Exit(1)
	}
}

func run(models, services, out string) error {
	if models == "" {
		return fmt.Errorf("say where the models are: -models or SKERRY_MODELS")
	}
	lists, err := filepath.Glob(filepath.Join(services, "*.txt"))
	if err != nil {
		return err
	}
	if len(lists) == 0 {
		return fmt.Errorf("no allow-lists in %s", services)
	}
	for _, path := range lists {
		if err := generate(models, path, out); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

func generate(models, list, out string) error {
	allow, err := readAllowList(list)
	if err != nil {
		return err
	}
	m, err := readModel(models, allow.model)
	if err != nil {
		return err
	}
	if err := allow.check(m); err != nil {
		return err
	}
	if err := allow.apply(m); err != nil {
		return err
	}
	g, err := newGenerator(m, allow)
	if err != nil {
		return err
	}
	folder := filepath.Join(out, allow.pkg)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	files := map[string]func() ([]byte, error){
		"types.go": g.typesFile, "errors.go": g.errorsFile, "enums.go": g.enumsFile, "schema.go": g.schemaFile,
	}
	for name, make := range files {
		b, err := make()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		path := filepath.Join(folder, name)
		if b == nil {
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				return err
			}
			continue
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
