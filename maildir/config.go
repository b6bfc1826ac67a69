package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/pelletier/go-toml/v2"
)

const (
	configFile    = "config.toml"
	maxConfigSize = 1 << 20
	maxAttachment = 1 << 30
)

// ErrConfig means that config.toml cannot be used.
var ErrConfig = errors.New("bad configuration")

// Config is config.toml. Every key has a working default, and an unknown key is an
// error.
type Config struct {
	Host     HostConfig     `toml:"host"`
	Operator OperatorConfig `toml:"operator"`
	HTTP     HTTPConfig     `toml:"http"`
	Link     LinkConfig     `toml:"link"`
	Limits   LimitsConfig   `toml:"limits"`
	Call     CallConfig     `toml:"call"`
	Watch    WatchConfig    `toml:"watch"`
	Wake     WakeConfig     `toml:"wake,omitempty" comment:"commands that wake agents: NAME = \"COMMAND\", for sh"`
}

// HostConfig is the table host. The tables are named types because errors quote them.
type HostConfig struct {
	Name string `toml:"name" comment:"the host part of addresses; taken when the home is made, default: the machine's name"`
}

// OperatorConfig is the table operator.
type OperatorConfig struct {
	Name string `toml:"name" comment:"of the agent as which the person who runs this host is seen when they say something"`
}

// HTTPConfig is the table http.
type HTTPConfig struct {
	Listen      string `toml:"listen" comment:"address for programs that have a token; off for none"`
	Connections int    `toml:"connections" comment:"at most so many at once there, 1 to 65536"`
}

// LinkConfig is the table link.
type LinkConfig struct {
	Listen    string `toml:"listen" comment:"where other hosts find this one: an address like :7601, off, or auto: from the first pairing on, at port 7601 or the next one that is free"`
	Advertise string `toml:"advertise" comment:"host or host:port that other hosts are told to dial; default: the address of this machine"`
}

// LimitsConfig is the table limits.
type LimitsConfig struct {
	Content      int      `toml:"content" comment:"bytes of a message's text, 1 to 1048576"`
	Attachment   int64    `toml:"attachment" comment:"bytes of a file that goes with a message, 1 to 1073741824"`
	Participants int      `toml:"participants" comment:"agents in one conversation, 2 to 1024"`
	Messages     int64    `toml:"messages" comment:"messages in one conversation, 0 for no limit"`
	Hops         int64    `toml:"hops" comment:"automatic messages in a row, 0 for no limit"`
	Rate         float64  `toml:"rate" comment:"messages a second by one agent in the long run, 0 for no limit"`
	Burst        int      `toml:"burst" comment:"messages by one agent at once, before the rate holds"`
	Repeat       Duration `toml:"repeat" comment:"an automatic message that says the same again within this time is taken for the first one, 0s for never"`
}

// CallConfig is the table call.
type CallConfig struct {
	Ring  Duration `toml:"ring" comment:"how long a call rings"`
	Grace Duration `toml:"grace" comment:"how long an agent may lose its stream before it has left a call"`
	Idle  Duration `toml:"idle" comment:"a call in which nobody says anything for so long is over"`
}

// WatchConfig is the table watch.
type WatchConfig struct {
	Rescan Duration `toml:"rescan" comment:"how often folders are read even when nothing seems to have changed"`
	Poll   bool     `toml:"poll" comment:"never use file events, look every poll-interval instead"`
	Every  Duration `toml:"poll-interval" comment:"how often to look where file events do not work"`
}

// WakeConfig is the table wake: for an agent's name the command that wakes it, empty for
// none.
type WakeConfig map[string]string

const (
	maxWakes       = 1024
	maxWakeCommand = 4096 // bytes
)

// Command is the command that wakes an agent, empty for none.
func (w WakeConfig) Command(agent string) string {
	if command, ok := w[agent]; ok {
		return command
	}
	for name, command := range w {
		if strings.EqualFold(name, agent) {
			return command
		}
	}
	return ""
}

func (w WakeConfig) check() error {
	if len(w) > maxWakes {
		return fmt.Errorf("wake: want at most %d commands, got %d", maxWakes, len(w))
	}
	names := make(map[string]string, len(w))
	for _, name := range slices.Sorted(maps.Keys(w)) {
		if err := envelope.CheckName(name); err != nil {
			return fmt.Errorf("wake: %w", err)
		}
		if other, twice := names[strings.ToLower(name)]; twice {
			return fmt.Errorf("wake.%s and wake.%s are one agent", other, name)
		}
		names[strings.ToLower(name)] = name
		if command := w[name]; len(command) > maxWakeCommand || strings.ContainsRune(command, 0) {
			return fmt.Errorf("wake.%s: want a command of at most %d bytes, without a zero byte", name, maxWakeCommand)
		}
	}
	return nil
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
	c.Operator.Name = "human"
	c.Limits.Content = envelope.MaxContent
	c.Limits.Attachment = 64 << 20
	c.Limits.Participants = 256
	c.Limits.Messages = 1_000_000
	c.Limits.Hops = 8
	c.Limits.Rate = 500
	c.Limits.Burst = 5000
	c.Limits.Repeat.Duration = time.Minute
	c.HTTP.Listen = "127.0.0.1:7600"
	c.HTTP.Connections = 4096
	c.Link.Listen = Auto
	c.Call.Ring.Duration = 30 * time.Second
	c.Call.Grace.Duration = time.Minute
	c.Call.Idle.Duration = 30 * time.Minute
	c.Watch.Rescan.Duration = 30 * time.Second
	c.Watch.Every.Duration = 500 * time.Millisecond
	return c
}

// ReadConfig reads the configuration at path; a missing file is the default one.
func ReadConfig(path string) (Config, error) {
	data, err := durable.ReadRegular(path, maxConfigSize) // also where it is kept with other settings
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultConfig(), nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("read config: %w", err)
	}
	c, err := ParseConfig(data)
	if err != nil {
		return Config{}, fmt.Errorf("%w: %q: %w", ErrConfig, path, err)
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
			return Config{}, fmt.Errorf("line %d, column %d: %s", row, column, misfit.ReplaceAllString(err.Error(), "no $1 belongs here"))
		}
		return Config{}, err
	}
	return c, c.check()
}

// misfit is what the library says of a value of another kind, with types of this program.
var misfit = regexp.MustCompile(`cannot decode TOML (\w+) into .*`)

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
	if err := envelope.CheckName(c.Operator.Name); err != nil {
		return fmt.Errorf("operator.name: %w", err)
	}
	if c.Limits.Content < 1 || c.Limits.Content > envelope.MaxContent {
		return fmt.Errorf("limits.content: want 1 to %d, got %d", envelope.MaxContent, c.Limits.Content)
	}
	if c.Limits.Attachment < 1 || c.Limits.Attachment > maxAttachment {
		return fmt.Errorf("limits.attachment: want 1 to %d, got %d", maxAttachment, c.Limits.Attachment)
	}
	if c.Limits.Participants < 2 || c.Limits.Participants > envelope.MaxRecipients {
		return fmt.Errorf("limits.participants: want 2 to %d, got %d", envelope.MaxRecipients, c.Limits.Participants)
	}
	if c.Limits.Messages < 0 || c.Limits.Hops < 0 || c.Limits.Burst < 1 || !(c.Limits.Rate >= 0 && c.Limits.Rate <= 1e6) {
		return errors.New("limits.messages, limits.hops and limits.rate are not negative, and limits.burst is at least 1")
	}
	if c.HTTP.Connections < 1 || c.HTTP.Connections > 1<<16 {
		return fmt.Errorf("http.connections: want 1 to %d, got %d", 1<<16, c.HTTP.Connections)
	}
	if err := checkListen(c.HTTP.Listen); err != nil {
		return err
	}
	if err := c.Link.check(); err != nil {
		return err
	}
	if err := c.Wake.check(); err != nil {
		return err
	}
	for _, d := range []struct {
		name     string
		value    Duration
		min, max time.Duration
	}{
		{"watch.rescan", c.Watch.Rescan, 10 * time.Millisecond, time.Hour},
		{"watch.poll-interval", c.Watch.Every, 10 * time.Millisecond, time.Hour},
		{"limits.repeat", c.Limits.Repeat, 0, time.Hour},
		{"call.ring", c.Call.Ring, 10 * time.Millisecond, 10 * time.Minute},
		{"call.grace", c.Call.Grace, 10 * time.Millisecond, time.Hour},
		{"call.idle", c.Call.Idle, 10 * time.Millisecond, 24 * time.Hour},
	} {
		if d.value.Duration < d.min || d.value.Duration > d.max {
			return fmt.Errorf("%s: want %s to %s, got %s", d.name, brief(d.min), brief(d.max), d.value)
		}
	}
	return nil
}

// brief writes a duration without the zeros at its end.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// What may stand in the place of an address to listen on.
const (
	Off  = "off"  // nobody listens
	Auto = "auto" // of link.listen: when it is needed, where there is room
)

const maxMachine = 300 // bytes of an address

func (l LinkConfig) check() error {
	if l.Listen != Auto && l.Listen != Off {
		colon := strings.LastIndexByte(l.Listen, ':')
		_, err := strconv.ParseUint(l.Listen[colon+1:], 10, 16)
		if colon < 0 || err != nil {
			return fmt.Errorf("link.listen: want auto, off, or an address like :7601 or 192.0.2.7:7601, got %q", l.Listen)
		}
	}
	if len(l.Advertise) > maxMachine || strings.ContainsAny(l.Advertise, " /\t\r\n") {
		return fmt.Errorf("link.advertise: want a host or host:port, got %q", l.Advertise)
	}
	return nil
}

// checkListen wants an address of this machine itself: what comes from elsewhere comes
// over links, which are encrypted.
func checkListen(address string) error {
	if address == Off {
		return nil
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("http.listen: want an address like 127.0.0.1:7600, or off, got %q", address)
	}
	if !at.Addr().IsLoopback() {
		return fmt.Errorf("http.listen: %s is not an address of this machine alone: want one like 127.0.0.1:7600", address)
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
