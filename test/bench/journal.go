package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// journal makes an ext4 file system with a journal, as a mail server's disk
// has, in a file, and mounts it. dir is a directory on it; release gives
// everything back.
func journal() (dir string, release func(), err error) {
	top, err := os.MkdirTemp("", "posthaste-bench")
	if err != nil {
		return "", nil, err
	}
	image, dir := filepath.Join(top, "image"), filepath.Join(top, "disk")
	out, err := exec.Command("/bin/sh", "-c", `mkdir "$2" && truncate -s 8G "$1" && mkfs.ext4 -q "$1" && mount -o loop "$1" "$2"`, "sh", image, dir).CombinedOutput()
	if err != nil {
		os.RemoveAll(top)
		return "", nil, fmt.Errorf("a file system of its own: %v: %s", err, out)
	}
	return dir, func() {
		_ = exec.Command("umount", dir).Run()
		_ = os.Remove(image)
		_ = os.Remove(dir)
		_ = os.Remove(top)
	}, nil
}
