package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts flags where the parser looks for them, so that they may stand anywhere, as users of kubectl expect: the
// global ones in front of the command, a command's own in front of its arguments. Behind "--" nothing is a flag. Words it
// does not know stay where they are, for the parser to name.
func arrange(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	a := arranger{global: app.Flags, commands: app.Commands}
	a.walk(args[1:])
	return slices.Concat(args[:1], a.globals, a.path, a.own, a.rest)
}

// arranger sorts the words of one call.
type arranger struct {
	global, flags            []cli.Flag
	commands                 []*cli.Command
	globals, path, own, rest []string
	positional               bool
}

func (a *arranger) walk(words []string) {
	for i := 0; i < len(words); i++ {
		w := words[i]
		if w == "--" {
			a.rest = append(a.rest, words[i:]...)
			return
		}
		if !strings.HasPrefix(w, "-") || w == "-" {
			if a.word(w) {
				a.rest = append(a.rest, words[i+1:]...)
				return
			}
			continue
		}
		to, takesValue := a.flag(w)
		*to = append(*to, w)
		if takesValue && i+1 < len(words) {
			i++
			*to = append(*to, words[i])
		}
	}
}

// word is a command on the way to the verb, or an argument of it. It tells whether all that follows is the command's as it stands.
func (a *arranger) word(w string) (verbatim bool) {
	at := slices.IndexFunc(a.commands, func(c *cli.Command) bool { return c.HasName(w) })
	if a.positional || at < 0 {
		a.positional = true
		a.rest = append(a.rest, w)
		return false
	}
	c := a.commands[at]
	a.path = append(a.path, w)
	a.flags, a.commands = c.Flags, c.Subcommands
	return c.SkipFlagParsing
}

// flag tells where a flag belongs and whether its value is the next word.
func (a *arranger) flag(w string) (to *[]string, takesValue bool) {
	name, _, joined := strings.Cut(strings.TrimLeft(w, "-"), "=")
	if f := find(a.flags, name); f != nil {
		return &a.own, !joined && !isBool(f)
	}
	if f := find(a.global, name); f != nil {
		return &a.globals, !joined && !isBool(f)
	}
	return &a.own, false
}

func find(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func isBool(f cli.Flag) bool {
	_, ok := f.(*cli.BoolFlag)
	return ok
}
