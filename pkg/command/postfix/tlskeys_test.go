package postfix

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"posthaste/pkg/conf"
	"posthaste/pkg/sys/maillog"
)

// A private key is the last thing that is made: none stays behind without its
// certificate, and the files are for those who may read them.
func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	log, _ := maillog.Capture()
	k := &keys{tool: &tool{config: conf.FromMap(map[string]string{"myhostname": "h.test"}), dirs: directories{config: dir}}, log: log, options: map[byte]string{'a': "ecdsa"}}
	cert, key := k.generate(false)
	for path, mode := range map[string]os.FileMode{cert: 0o644, key: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Error(path, info, err)
		}
		os.Remove(path)
	}
	for second := range 60 {
		path := filepath.Join(dir, "eccert"+time.Now().Add(time.Duration(second)*time.Second).UTC().Format("-20060102-150405.pem"))
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	func() {
		defer func() {
			if _, fatal := recover().(maillog.Exit); !fatal {
				t.Error("a certificate was overwritten")
			}
		}()
		k.generate(false)
	}()
	if left, _ := filepath.Glob(dir + "/eckey-*"); len(left) > 0 {
		t.Error("left behind:", left)
	}
}
