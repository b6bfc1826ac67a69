package ledger_test

import (
	"reflect"
	"testing"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// TestSnapshotsKeepEverything has a value in each field, so that one which somebody adds
// to the state is not forgotten here.
func TestSnapshotsKeepEverything(t *testing.T) {
	var s ledger.Snapshot
	n := int64(1)
	fill(t, reflect.ValueOf(&s).Elem(), &n)
	again(t, s)
	again(t, ledger.Snapshot{})
}

// fill gives each field another value.
func fill(t *testing.T, v reflect.Value, n *int64) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range 3 {
			fill(t, v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 3 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(t, key, n)
			fill(t, value, n)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString(string(rune('a'+*n)) + "x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(*n << 33)
	case reflect.Uint64:
		v.SetUint(1<<63 + uint64(*n))
	case reflect.Uint32:
		v.SetUint(1<<31 + uint64(*n))
	default:
		t.Fatalf("a field of the kind %s: teach encode and this test", v.Kind())
	}
}

func again(t interface{ Fatalf(string, ...any) }, s ledger.Snapshot) {
	got, err := ledger.DecodeSnapshot(s.Encode())
	if diff := cmp.Diff(s, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Fatalf("got %v, %s", err, diff)
	}
}

func TestSnapshotsOfAnyKind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s ledger.Snapshot
		s.State = rapid.Make[conv.State]().Draw(t, "state")
		s.Noise = rapid.Bool().Draw(t, "noise")
		s.Changed = rapid.Int64().Draw(t, "changed")
		again(t, s)
	})
}

func FuzzSnapshot(f *testing.F) {
	f.Add(ledger.Snapshot{State: conv.State{Topic: "x", Members: make([]conv.Member, 2)}}.Encode())
	f.Add([]byte(`{"state":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ledger.DecodeSnapshot(data)
		if err == nil {
			again(t, s)
		}
	})
}
