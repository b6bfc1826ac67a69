package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/near"
	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
)

func newConfig(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Show and change the settings of this host",
		Long: `Show and change config.toml in the home. Every key has a default that works; a running
daemon takes changes when it starts again. wake.NAME is the command that wakes the agent
NAME, none where it is empty.`,
		Example: `  duo config list
  duo config set limits.content 65536
  duo config set wake.Nova 'tmux send-keys -t nova "duo inbox" Enter'`,
		Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "Print all settings", Long: "Print all settings, with the defaults where nothing was set.",
			Example: "  duo config list", Args: noArgs, ValidArgsFunction: noCompletion,
			RunE: func(*cobra.Command, []string) error { return a.listConfig() },
		},
		&cobra.Command{
			Use: "get KEY", Short: "Print one setting", Long: "Print the value of one setting.",
			Example: "  duo config get limits.content", Args: exactly(1), ValidArgsFunction: completeKeys,
			RunE: func(_ *cobra.Command, args []string) error { return a.getConfig(args[0]) },
		},
		&cobra.Command{
			Use: "set KEY VALUE", Short: "Change one setting",
			Long:    "Write one setting into config.toml. The other lines of the file stay as they are.",
			Example: "  duo config set watch.poll true", Args: exactly(2), ValidArgsFunction: completeKeys,
			RunE: func(_ *cobra.Command, args []string) error { return a.setConfig(args[0], args[1]) },
		},
		&cobra.Command{
			Use: "path", Short: "Print where the files are", Long: "Print the path of the home and of config.toml, which need not exist.",
			Example: "  duo config path", Args: noArgs, ValidArgsFunction: noCompletion,
			RunE: func(*cobra.Command, []string) error { return a.configPath() },
		},
	)
	return cmd
}

// homeAt is the home's place, without opening it: it may not be one yet, or not a
// good one.
func homeAt() (*maildir.Home, error) {
	dir, err := maildir.DefaultDir()
	return &maildir.Home{Dir: dir}, err
}

func (a *app) configPath() error {
	home, err := homeAt()
	if err != nil {
		return err
	}
	paths := map[string]string{"home": home.Dir, "config": home.ConfigPath(), "socket": home.SocketPath(), "log": home.DaemonLogPath()}
	return a.print(paths, func() {
		for _, name := range []string{"home", "config", "socket", "log"} {
			a.text().Field(name, paths[name])
		}
	})
}

// setting is one key of the configuration and its value.
type setting struct {
	key   string
	value any
}

// settings lists the values of all keys in the order of their names.
func settings(c maildir.Config) ([]setting, error) {
	data, err := c.Encode()
	if err != nil {
		return nil, err
	}
	var tables map[string]map[string]any
	if err := toml.Unmarshal(data, &tables); err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	var list []setting
	for table, keys := range tables {
		for key, value := range keys {
			list = append(list, setting{table + "." + key, value})
		}
	}
	slices.SortFunc(list, func(a, b setting) int { return strings.Compare(a.key, b.key) })
	return list, nil
}

func readSettings() ([]setting, error) {
	home, err := homeAt()
	if err != nil {
		return nil, err
	}
	config, err := maildir.ReadConfig(home.ConfigPath())
	if err != nil {
		return nil, api.Errorf(api.Internal, "%w", err).WithNext("cat %s", shellQuote(home.ConfigPath()))
	}
	return settings(config)
}

func (a *app) listConfig() error {
	list, err := readSettings()
	if err != nil {
		return err
	}
	values := make(map[string]any)
	for _, s := range list {
		values[s.key] = s.value
	}
	return a.print(values, func() {
		for _, s := range list {
			a.say("%s = %s", s.key, frame.Line(fmt.Sprint(s.value)))
		}
		a.next("duo config set KEY VALUE")
	})
}

func (a *app) getConfig(key string) error {
	list, err := readSettings()
	if err != nil {
		return err
	}
	s, err := choose(list, key)
	if err != nil {
		return err
	}
	return a.print(map[string]any{s.key: s.value}, func() { a.say("%s", frame.Line(fmt.Sprint(s.value))) })
}

func choose(list []setting, key string) (setting, error) {
	var keys []string
	for _, s := range list {
		if s.key == key {
			return s, nil
		}
		keys = append(keys, s.key)
	}
	if name, ok := strings.CutPrefix(key, "wake."); ok && envelope.CheckName(name) == nil {
		return setting{key, ""}, nil // each agent can have one
	}
	return setting{}, usage("duo config list", "there is no setting %q", key).WithNear(near.Names(key, keys))
}

func (a *app) setConfig(key, value string) error {
	list, err := readSettings()
	if err != nil {
		return err
	}
	old, err := choose(list, key)
	if err != nil {
		return err
	}
	home, err := homeAt()
	if err != nil {
		return err
	}
	if err := checkHostName(key, value); err != nil {
		return err
	}
	data, err := os.ReadFile(home.ConfigPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read config: %w", err)
	}
	text := literal(old.value, value)
	data = withSetting(data, key, text)
	if err := checkSetting(data, key, text); err != nil {
		return usage("duo config get "+key, "%s cannot be %q: %w", key, value, err)
	}
	if err := durable.Mkdir(filepath.Dir(home.ConfigPath()), 0o700); err != nil {
		return err
	}
	if err := durable.Replace(home.ConfigPath(), data, 0o600); err != nil {
		return err
	}
	return a.print(map[string]string{key: value}, func() {
		a.say("set %s = %s; the daemon takes it when it starts again", key, frame.Line(text))
		a.next("duo down && duo up")
	})
}

// checkHostName refuses to give a host that exists another name: it keeps its name.
func checkHostName(key, value string) error {
	if key != "host.name" {
		return nil
	}
	dir, err := maildir.DefaultDir()
	if err != nil {
		return err
	}
	home, err := maildir.Open(dir)
	if err == nil && home.Host.Name != value {
		return api.Errorf(api.NotAllowed, "this host is %s and keeps its name", home.Host.Name).WithNext("duo config get host.name")
	}
	return nil
}

// literal writes a value in TOML, as the kind that the setting has.
func literal(like any, value string) string {
	if _, text := like.(string); text {
		data, _ := toml.Marshal(map[string]string{"v": value}) // a text always has a form
		return strings.TrimSpace(strings.TrimPrefix(string(data), "v = "))
	}
	return value
}

// withSetting puts a setting into a TOML text: in the line that has it, else behind
// the heading of its table, else at the end.
func withSetting(data []byte, key, value string) []byte {
	table, name, _ := strings.Cut(key, ".")
	line := name + " = " + value
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	heading, current := -1, ""
	for i, l := range lines {
		l = strings.TrimSpace(l)
		if strings.HasPrefix(l, "[") {
			current = strings.TrimSpace(strings.Trim(strings.SplitN(l, "#", 2)[0], "[] \t"))
		}
		if current != table {
			continue
		}
		if strings.HasPrefix(l, "[") {
			heading = i
		}
		if left, _, found := strings.Cut(l, "="); found && strings.TrimSpace(left) == name {
			lines[i] = line
			return []byte(strings.Join(lines, "\n") + "\n")
		}
	}
	if heading < 0 {
		lines = append(lines, "["+table+"]")
		heading = len(lines) - 1
	}
	lines = slices.Insert(lines, heading+1, line)
	return []byte(strings.TrimLeft(strings.Join(lines, "\n"), "\n") + "\n")
}

// checkSetting checks that a configuration is good and says what was set.
func checkSetting(data []byte, key, value string) error {
	config, err := maildir.ParseConfig(data)
	if err != nil {
		return err
	}
	want, err := maildir.ParseConfig(withSetting(nil, key, value))
	if err != nil {
		return err
	}
	got, err := settings(config)
	if err != nil {
		return err
	}
	all, err := settings(want)
	if err != nil {
		return err
	}
	a, _ := choose(got, key) // both have every key
	b, _ := choose(all, key)
	if a.value != b.value {
		return errors.New("the file is written in a way that duo does not change; edit it by hand")
	}
	return nil
}

func completeKeys(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	list, err := readSettings()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var keys []string
	for _, s := range list {
		keys = append(keys, s.key)
	}
	return matching(keys, begun), cobra.ShellCompDirectiveNoFileComp
}
