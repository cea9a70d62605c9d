// Peer is both ends of a connection: it serves its caller's address, calls such a server, and resolves names.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const patience = 2 * time.Second

func serve(listen, folder string) error {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		_, _ = fmt.Fprint(w, host)
	})
	if folder != "" { // proves that the volume is writable and what a graceful end leaves behind
		if err := os.WriteFile(filepath.Join(folder, "started"), []byte(time.Now().String()), 0o600); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server := &http.Server{Addr: listen, ReadHeaderTimeout: patience}
	go func() {
		<-ctx.Done()
		_ = server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	if folder != "" {
		return os.WriteFile(filepath.Join(folder, "ended-gracefully"), nil, 0o600)
	}
	return nil
}

func get(url string) error {
	answer, err := (&http.Client{Timeout: patience}).Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}

func lookup(name string) error {
	addresses, err := net.LookupHost(name)
	for _, address := range addresses {
		fmt.Println(address)
	}
	return err
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: peer serve ADDRESS [FOLDER] | get URL | lookup NAME")
		os.Exit(2)
	}
	folder := ""
	if len(os.Args) > 3 {
		folder = os.Args[3]
	}
	err := map[string]func(string) error{
		"serve":  func(address string) error { return serve(address, folder) },
		"get":    get,
		"lookup": lookup,
	}[os.Args[1]](os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
