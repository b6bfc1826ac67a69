package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/pelletier/go-toml/v2"
)

const (
	configFile    = "config.toml"
	maxConfigSize = 1 << 20
)

// Config is config.toml. Every key has a working default, and an unknown key is an
// error.
type Config struct {
	Host   HostConfig   `toml:"host"`
	Limits LimitsConfig `toml:"limits"`
	Watch  WatchConfig  `toml:"watch"`
}

// HostConfig is the table host. The tables are named types because errors quote them.
type HostConfig struct {
	Name string `toml:"name" comment:"the host part of addresses; taken when the home is made, default: the machine's name"`
}

// LimitsConfig is the table limits.
type LimitsConfig struct {
	Content      int `toml:"content" comment:"bytes of a message's text, 1 to 1048576"`
	Participants int `toml:"participants" comment:"agents in one conversation, 2 to 1024"`
}

// WatchConfig is the table watch.
type WatchConfig struct {
	Rescan Duration `toml:"rescan" comment:"how often folders are read even when nothing seems to have changed"`
	Poll   bool     `toml:"poll" comment:"never use file events, look every poll-interval instead"`
	Every  Duration `toml:"poll-interval" comment:"how often to look where file events do not work"`
}

// Duration is a time span written as text: "30s", "1m30s".
type Duration struct{ time.Duration }

// MarshalText writes the duration as "30s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration like "30s".
func (d *Duration) UnmarshalText(text []byte) error {
	value, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q: want numbers with units, like \"30s\" or \"1m30s\"", text)
	}
	d.Duration = value
	return nil
}

// DefaultConfig is what holds where config.toml says nothing.
func DefaultConfig() Config {
	var c Config
	c.Limits.Content = envelope.MaxContent
	c.Limits.Participants = 256
	c.Watch.Rescan.Duration = 30 * time.Second
	c.Watch.Every.Duration = 500 * time.Millisecond
	return c
}

// ReadConfig reads the configuration at path; a missing file is the default one.
func ReadConfig(path string) (Config, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultConfig(), nil
	}
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxConfigSize) {
		err = fmt.Errorf("%q: want a regular file of at most %d bytes", path, maxConfigSize)
	}
	if err != nil {
		return Config{}, fmt.Errorf("read config: %w", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read config: %w", err)
	}
	c, err := ParseConfig(data)
	if err != nil {
		return Config{}, fmt.Errorf("read config %q: %w", path, err)
	}
	return c, nil
}

// ParseConfig reads a configuration from TOML. Its errors tell the line, or where a
// value is out of range the key.
func ParseConfig(data []byte) (Config, error) {
	c := DefaultConfig()
	decoder := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		var unknown *toml.StrictMissingError
		if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
			row, _ := unknown.Errors[0].Position()
			return Config{}, fmt.Errorf("line %d: unknown key %q", row, joinKey(unknown.Errors[0].Key()))
		}
		var syntax *toml.DecodeError
		if errors.As(err, &syntax) {
			row, column := syntax.Position()
			return Config{}, fmt.Errorf("line %d, column %d: %w", row, column, err)
		}
		return Config{}, err
	}
	return c, c.check()
}

// Encode writes the configuration as TOML, with a comment for each key.
func (c Config) Encode() ([]byte, error) {
	data, err := toml.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode config: %w", err)
	}
	return data, nil
}

// Write puts the configuration in place of the file at path.
func (c Config) Write(path string) error {
	if err := c.check(); err != nil {
		return err
	}
	data, err := c.Encode()
	if err != nil {
		return err
	}
	return durable.Replace(path, data, 0o600)
}

func (c Config) check() error {
	if c.Host.Name != "" {
		if err := envelope.CheckHost(c.Host.Name); err != nil {
			return fmt.Errorf("host.name: %w", err)
		}
	}
	if c.Limits.Content < 1 || c.Limits.Content > envelope.MaxContent {
		return fmt.Errorf("limits.content: want 1 to %d, got %d", envelope.MaxContent, c.Limits.Content)
	}
	if c.Limits.Participants < 2 || c.Limits.Participants > envelope.MaxRecipients {
		return fmt.Errorf("limits.participants: want 2 to %d, got %d", envelope.MaxRecipients, c.Limits.Participants)
	}
	for name, d := range map[string]time.Duration{
		"watch.rescan": c.Watch.Rescan.Duration, "watch.poll-interval": c.Watch.Every.Duration,
	} {
		if d < 10*time.Millisecond || d > time.Hour {
			return fmt.Errorf("%s: want 10ms to 1h, got %s", name, d)
		}
	}
	return nil
}

func joinKey(key toml.Key) string {
	var text []byte
	for i, part := range key {
		if i > 0 {
			text = append(text, '.')
		}
		text = append(text, part...)
	}
	return string(text)
}
