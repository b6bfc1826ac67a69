package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claude-duo/duo/cmd/duo/internal/clients"
	"github.com/claude-duo/duo/cmd/duo/internal/guide"
	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir/near"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

type installOptions struct {
	scope  string
	dryRun bool
	yes    bool
	spool  bool
}

func newInstall(a *app) *cobra.Command {
	o := installOptions{scope: string(clients.User)}
	cmd := &cobra.Command{
		Use: "install [CLIENT...]", Short: "Put duo into a client program",
		Long: `Put duo into the programs that agents run in, so that they have its tools, are told of
their mail and know how to use it. CLIENT is claude, codex, gemini, cursor or opencode;
without one it says which of them are here.

What would be changed is shown first, as a diff, with the client's commands that would be
run. On a terminal it then asks; elsewhere --yes says yes. Only entries of duo are written,
by the client's own plugin or extension where it has one; everything else in its files stays
as it is, with a copy in FILE.duo-bak. Installing again brings up to date what is there, and
duo uninstall undoes it.

--scope project writes into the files of the project that this folder is in, with the bare
word duo as the command, for all who work on it.`,
		Example: `  duo install
  duo install claude --dry-run
  duo install codex gemini --yes`,
		ValidArgsFunction: completeClients,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.listClients()
			}
			return a.install(cmd.Context(), args, o)
		},
	}
	addInstallFlags(cmd, &o)
	cmd.Flags().BoolVar(&o.spool, "spool", false, "let Codex's sandbox write into your agent's outbox, for drops")
	return cmd
}

func newUninstall(a *app) *cobra.Command {
	o := installOptions{scope: string(clients.User)}
	cmd := &cobra.Command{
		Use: "uninstall CLIENT...", Short: "Take duo out of a client program",
		Long: `Take out what duo install has put into client programs. A file that nobody has edited since
is then as it was before, to the byte; in others only the entries of duo go.`,
		Example: `  duo uninstall claude
  duo uninstall codex --scope project --dry-run`,
		Args: atLeast(1), ValidArgsFunction: completeClients,
		RunE: func(cmd *cobra.Command, args []string) error { return a.uninstall(cmd.Context(), args, o) },
	}
	addInstallFlags(cmd, &o)
	return cmd
}

func addInstallFlags(cmd *cobra.Command, o *installOptions) {
	cmd.Flags().Var(choice{&o.scope, []string{string(clients.User), string(clients.Project)}}, "scope", "whose configuration to write")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would be changed, and change nothing")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "do not ask")
}

func completeClients(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return clients.Names(), cobra.ShellCompDirectiveNoFileComp
}

// checkClients refuses names of clients that are not known.
func checkClients(cmd string, names []string) error {
	for _, name := range names {
		if slices.Contains(clients.Names(), name) {
			continue
		}
		like := near.Names(name, clients.Names())
		next := cmd + " --help"
		if len(like) > 0 {
			next = cmd + " " + like[0]
		}
		return usage(next, "there is no client %q; known are %s", name, strings.Join(clients.Names(), ", ")).WithNear(like)
	}
	return nil
}

// clientsEnv is what the surroundings say of clients.
func (a *app) clientsEnv() (clients.Env, error) {
	home, err := homeAt()
	if err != nil {
		return clients.Env{}, err
	}
	user, err := os.UserHomeDir()
	if err != nil {
		return clients.Env{}, api.Errorf(api.BadConfig, "where are your files? %w", err).WithNext("export HOME=...")
	}
	program, err := ownProgram()
	if err != nil {
		return clients.Env{}, err
	}
	skill, err := fs.ReadFile(guide.Skills(), path.Join(guide.Skill, "SKILL.md"))
	if err != nil {
		return clients.Env{}, fmt.Errorf("read skill: %w", err)
	}
	dir, err := os.Getwd()
	return clients.Env{Getenv: a.env, User: user, Project: projectAround(dir), Duo: program, Dir: home.ClientsDir(), Skill: skill}, err
}

// ownProgram is the path of this program: as it is found by its name where that leads here,
// because such a path stays when a new version comes.
func ownProgram() (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(program)
	if err != nil {
		return "", err
	}
	if found, err := exec.LookPath("duo"); err == nil && filepath.IsAbs(found) {
		if target, err := filepath.EvalSymlinks(found); err == nil && target == real {
			return found, nil
		}
	}
	return program, nil
}

// projectAround is the folder of the repository that a folder is in, else the folder.
func projectAround(dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, ".git")); err == nil {
			return at
		}
		if at == filepath.Dir(at) {
			return dir
		}
	}
}

func (a *app) listClients() error {
	env, err := a.clientsEnv()
	if err != nil {
		return err
	}
	list, err := clients.Look(env)
	if err != nil {
		return err
	}
	return a.print(map[string][]clients.Known{"clients": list}, func() {
		next := "duo install CLIENT"
		for _, known := range slices.Backward(list) {
			if len(known.Installed) > 0 {
				next = "duo doctor --client " + known.Name
			}
		}
		for _, known := range slices.Backward(list) {
			if known.Found != "" && len(known.Installed) == 0 {
				next = "duo install " + known.Name
			}
		}
		for _, known := range list {
			a.say("%s", frame.Line(knownLine(known)))
		}
		a.next("%s", next)
	})
}

func knownLine(known clients.Known) string {
	line := pad(known.Name, 9) + " "
	switch {
	case len(known.Installed) > 0:
		line += "installed (" + strings.Join(known.Installed, ", ") + ")"
	case known.Found != "":
		line += "found, not installed"
	default:
		return line + "not found"
	}
	if known.Found != "" {
		line += "  " + known.Found
	}
	return line
}

func pad(word string, width int) string {
	return word + strings.Repeat(" ", max(0, width-len(word)))
}

func (a *app) install(ctx context.Context, names []string, o installOptions) error {
	if err := checkClients("duo install", names); err != nil {
		return err
	}
	env, err := a.clientsEnv()
	if err != nil {
		return err
	}
	if o.spool {
		if !slices.Contains(names, "codex") || o.scope != string(clients.User) {
			return usage("duo install codex --spool", "--spool is for codex alone, with the user's scope: the path of an outbox is nobody else's")
		}
		self, err := a.me()
		if err != nil {
			return err
		}
		home, err := a.home()
		if err != nil {
			return err
		}
		env.Outbox = filepath.Join(home.AgentDir(self.Name), "outbox")
	}
	var told []told
	for _, name := range names {
		done, err := a.installOne(ctx, env, name, o, false)
		if err != nil {
			return err
		}
		told = append(told, done)
	}
	return a.endInstall(told, o, "duo doctor --client "+names[0])
}

// installOne puts duo into one client: by its own command, and where that refuses, or with
// files, into its files.
func (a *app) installOne(ctx context.Context, env clients.Env, name string, o installOptions, files bool) (told, error) {
	plan, err := clients.Install(env, name, clients.Scope(o.scope), files)
	if err != nil {
		return told{}, err
	}
	done, err := a.carryOut(ctx, plan, o, "installed in", "is installed in")
	if errors.Is(err, clients.ErrRefused) && !files {
		a.note("%v; its files are written instead", err)
		return a.installOne(ctx, env, name, o, true)
	}
	return done, err
}

func (a *app) uninstall(ctx context.Context, names []string, o installOptions) error {
	if err := checkClients("duo uninstall", names); err != nil {
		return err
	}
	env, err := a.clientsEnv()
	if err != nil {
		return err
	}
	var told []told
	for _, name := range names {
		plan, err := clients.Uninstall(env, name, clients.Scope(o.scope))
		if err != nil {
			return err
		}
		done, err := a.carryOut(ctx, plan, o, "taken out of", "is not in")
		if err != nil {
			return err
		}
		told = append(told, done)
	}
	next, err := elsewhere(env, names[0], clients.Scope(o.scope))
	if err != nil {
		return err
	}
	return a.endInstall(told, o, next)
}

// elsewhere is what makes sense after an uninstall: another one, where duo is still in the
// client, in the other scope.
func elsewhere(env clients.Env, name string, not clients.Scope) (next string, err error) {
	list, err := clients.Look(env)
	for _, known := range list {
		for _, scope := range []clients.Scope{clients.User, clients.Project} {
			place := string(scope)
			if scope == clients.Project {
				place += " " + env.Project
			}
			if known.Name == name && scope != not && slices.Contains(known.Installed, place) {
				return fmt.Sprintf("duo uninstall %s --scope %s", name, scope), err
			}
		}
	}
	return "duo install", err
}

// told is what was done to a client, as --json tells it.
type told struct {
	Client   string       `json:"client"`
	Scope    string       `json:"scope"`
	Way      string       `json:"way"`
	Files    []toldChange `json:"files"`
	Commands [][]string   `json:"commands"`
	Notes    []string     `json:"notes"`
	Applied  bool         `json:"applied"`
}

type toldChange struct {
	Path   string `json:"path"`
	Action string `json:"action"` // create, change or remove
	Diff   string `json:"diff"`
}

func tell(p *clients.Plan) told {
	t := told{Client: p.Client, Scope: string(p.Scope), Way: p.Way, Files: []toldChange{}, Commands: [][]string{}, Notes: []string{}}
	for _, c := range p.Changes {
		action := "change"
		switch {
		case c.Old == nil:
			action = "create"
		case c.New == nil:
			action = "remove"
		}
		t.Files = append(t.Files, toldChange{c.Path, action, c.Diff()})
	}
	t.Commands = append(t.Commands, p.Commands...)
	return t
}

// carryOut shows a plan, asks, and does it.
func (a *app) carryOut(ctx context.Context, plan *clients.Plan, o installOptions, did, nothing string) (told, error) {
	t := tell(plan)
	if !a.json {
		a.showPlan(plan, t)
	}
	if plan.Empty() {
		if !a.json {
			a.say("duo %s %s (%s): nothing to do", nothing, plan.Title, plan.Scope)
		}
		return t, nil
	}
	if o.dryRun {
		return t, nil
	}
	if err := a.agree(o); err != nil {
		return t, err
	}
	if _, err := a.makeHome(); err != nil {
		return t, err
	}
	if err := plan.Apply(ctx); err != nil {
		return t, err
	}
	t.Applied = true
	t.Notes = append(t.Notes, plan.Notes...)
	if !a.json {
		a.say("duo %s %s (%s)", did, plan.Title, plan.Scope)
		for _, note := range plan.Notes {
			a.say("%s", frame.Line("  "+note))
		}
	}
	return t, nil
}

// showPlan prints what would be done. Of files that are duo's alone the names are enough.
func (a *app) showPlan(plan *clients.Plan, t told) {
	for i, c := range plan.Changes {
		if c.Own() {
			a.say("%s %s", t.Files[i].Action, frame.Line(c.Path))
			continue
		}
		for line := range strings.Lines(t.Files[i].Diff) {
			a.say("%s", frame.Line(strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "    ")))
		}
	}
	for _, command := range plan.Commands {
		a.say("run    %s", frame.Line(shellLine(command...)))
	}
}

// agree asks whether the plan that was shown is to be carried out.
func (a *app) agree(o installOptions) error {
	if o.yes {
		return nil
	}
	again := shellLine(slices.Concat([]string{"duo"}, a.args, []string{"--yes"})...)
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) || a.json {
		return usage(again, "nothing was changed: there is no terminal to ask on")
	}
	a.say("go on? [y/N]")
	if err := a.flush(); err != nil {
		return err
	}
	answer, _ := bufio.NewReader(in).ReadString('\n') // its end is no
	if !slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer))) {
		return usage(again, "nothing was changed")
	}
	return nil
}

func (a *app) endInstall(list []told, o installOptions, next string) error {
	if a.json {
		return a.printJSON(map[string][]told{"clients": list})
	}
	if o.dryRun && slices.ContainsFunc(list, func(t told) bool { return len(t.Files)+len(t.Commands) > 0 }) {
		a.say("nothing was changed")
		words := slices.DeleteFunc(slices.Clone(a.args), func(word string) bool { return word == "--dry-run" })
		next = shellLine(slices.Concat([]string{"duo"}, words, []string{"--yes"})...)
	}
	a.next("%s", next)
	return nil
}
