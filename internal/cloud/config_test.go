package cloud

import "testing"

func TestConfigCheck(t *testing.T) {
	good := Config{Listen: DefaultListen, Data: "d", Account: DefaultAccount, Region: DefaultRegion, Durability: DefaultDurability}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"listen":     func(c *Config) { c.Listen = "4566" },
		"account":    func(c *Config) { c.Account = "123" },
		"region":     func(c *Config) { c.Region = "Mars" },
		"data":       func(c *Config) { c.Data = "" },
		"durability": func(c *Config) { c.Durability = "perhaps" },
	} {
		c := good
		spoil(&c)
		if c.Check() == nil {
			t.Errorf("a wrong %s passes", name)
		}
	}
}

func TestLoopback(t *testing.T) {
	for listen, want := range map[string]bool{
		"127.0.0.1:1": true, "localhost:1": true, "[::1]:1": true, "127.9.9.9:1": true,
		"0.0.0.0:1": false, ":1": false, "10.0.0.1:1": false, "[::]:1": false,
	} {
		if got := (Config{Listen: listen}).Loopback(); got != want {
			t.Errorf("%s: got %v", listen, got)
		}
	}
}

func TestParseRootKey(t *testing.T) {
	if k, err := ParseRootKey("AKIDEXAMPLE:se:cret"); err != nil || k != (RootKey{"AKIDEXAMPLE", "se:cret"}) {
		t.Errorf("got %v, %v", k, err)
	}
	for _, s := range []string{"", "AKID", "AKID:", ":secret", "a b c:secret"} {
		if _, err := ParseRootKey(s); err == nil {
			t.Errorf("%q passes", s)
		}
	}
}
