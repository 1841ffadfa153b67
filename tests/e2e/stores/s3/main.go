// Versity's S3 gateway over a folder, with one account: its own program without the other stores, which are most of its size.
package main

import (
	"log"
	"os"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
)

func main() {
	access, secret := os.Getenv("ROOT_ACCESS_KEY"), os.Getenv("ROOT_SECRET_KEY")
	store, err := posix.New(os.Args[1], meta.NoMeta{}, posix.PosixOpts{NewDirPerm: 0o755})
	if err != nil {
		log.Fatal(err)
	}
	root := auth.Account{Access: access, Secret: secret, Role: auth.RoleAdmin}
	users, err := auth.New(&auth.Opts{RootAccount: root})
	if err != nil {
		log.Fatal(err)
	}
	account := middlewares.RootUserConfig{Access: access, Secret: secret}
	server, err := s3api.New(store, account, os.Args[2], os.Args[3], users, nil, nil, nil, nil, s3api.WithKeepAlive())
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.Serve())
}
