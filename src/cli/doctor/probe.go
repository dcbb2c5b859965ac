// Asks URL once with net/http, and says so before it does.
package main

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
)

func main() {
	fmt.Println("asking", runtime.Version())
	if _, err := http.Get(os.Args[1]); err != nil {
		os.Exit(1)
	}
}
