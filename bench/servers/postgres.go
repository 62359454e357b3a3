package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Postgres is two servers that can prepare transactions.
type Postgres struct {
	URLs    []string
	Version string

	dir     string
	servers []*child
}

// ErrNoPostgres: the machine does not have the programs.
var ErrNoPostgres = errors.New("no initdb and postgres in PATH or /usr/lib/postgresql/*/bin")

// postgresBin finds the directory of the programs: the newest version's, or that of PATH.
func postgresBin() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well formed
	slices.SortFunc(dirs, func(a, b string) int { return versionOf(b) - versionOf(a) })
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, d := range dirs {
		if executable(filepath.Join(d, "initdb")) && executable(filepath.Join(d, "postgres")) {
			return d, nil
		}
	}
	return "", ErrNoPostgres
}

// versionOf is 15 of /usr/lib/postgresql/15/bin.
func versionOf(dir string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))) // what is no number comes last
	return n
}

func executable(path string) bool {
	s, err := os.Stat(path)
	return err == nil && s.Mode().IsRegular() && s.Mode()&0o111 != 0
}

// StartPostgres makes two databases in dir, serves them with defaults but for max_prepared_transactions and connections, and waits until
// they answer. PostgreSQL refuses to run as root, so root gives it to the user postgres, or nobody.
func StartPostgres(ctx context.Context, dir string, connections int) (*Postgres, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	if dir, err = subdir(dir, "postgres"); err != nil {
		return nil, err
	}
	who, err := unprivileged()
	if err != nil {
		return nil, err
	}
	p := &Postgres{dir: dir}
	version, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("ask postgres for its version: %w", err)
	}
	p.Version = strings.TrimSpace(strings.TrimPrefix(string(version), "postgres (PostgreSQL)"))
	addrs, err := freeAddresses(2)
	if err != nil {
		return nil, err
	}
	for i, addr := range addrs {
		if err := p.serve(ctx, pgServer{bin, filepath.Join(dir, strconv.Itoa(i+1)), addr, connections, who}); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	return p, nil
}

// unprivileged is whom root gives a server to; nil: we are nobody special.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		who, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("postgres does not run as root, and there is neither a user postgres nor nobody: %w", err)
	}
	uid, err := strconv.ParseUint(who.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(who.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// pgServer is one server that is to be.
type pgServer struct {
	bin, dir, addr string
	connections    int
	who            *syscall.Credential
}

func (p *Postgres) serve(ctx context.Context, s pgServer) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if s.who != nil {
		if err := os.Chown(s.dir, int(s.who.Uid), int(s.who.Gid)); err != nil {
			return err
		}
	}
	initdb := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"), "-D", s.dir, "-U", "bench", "-A", "trust", "--no-locale", "-E", "UTF8")
	initdb.Dir = s.dir
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: s.who}
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	most := strconv.Itoa(s.connections)
	c, err := launch(program{name: "postgres on " + s.addr, path: filepath.Join(s.bin, "postgres"), log: s.dir + ".log", stop: syscall.SIGINT, user: s.who,
		args: []string{"-D", s.dir, "-c", "listen_addresses=" + host, "-p", port, "-k", s.dir, "-c", "max_prepared_transactions=" + most, "-c", "max_connections=" + most}})
	if err != nil {
		return err
	}
	p.servers = append(p.servers, c)
	url := "postgres://bench@" + s.addr + "/postgres?sslmode=disable"
	p.URLs = append(p.URLs, url)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return until(ctx, func() error {
		select {
		case <-c.done:
			cancel() // it will not answer any more
			return fmt.Errorf("%s ended: %s", c.name, c.tail())
		default:
		}
		conn, err := pgconn.Connect(ctx, url)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

// Close ends the servers and deletes their data.
func (p *Postgres) Close() error {
	var errs []error
	for _, s := range p.servers {
		errs = append(errs, s.end(syscall.SIGINT, 15*time.Second)) // SIGINT: fast shutdown
	}
	return errors.Join(append(errs, os.RemoveAll(p.dir))...)
}
