// Resolve compose files as `docker compose config` does, with the loader that it is made of, and without an engine:
//
//	compose [--profile NAME]… FILE…
//
// Checks them against the compose schema, merges and interpolates them (environment, .env), reads env_file, and prints
// the project as JSON. What is wrong goes to standard error, with exit code 1.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if err := resolve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func resolve(arguments []string) error {
	var files, profiles []string
	for i := 0; i < len(arguments); i++ {
		if arguments[i] == "--profile" && i+1 < len(arguments) {
			i++
			profiles = append(profiles, arguments[i])
		} else {
			files = append(files, arguments[i])
		}
	}
	options, err := cli.NewProjectOptions(files,
		cli.WithOsEnv, cli.WithDotEnv, cli.WithDefaultProfiles(profiles...))
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	printed, err := project.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(printed, '\n'))
	return err
}
