package refresh_test

import (
	"os"
	"os/signal"
	"syscall"
)

func onTerminate(c chan<- os.Signal) { signal.Notify(c, syscall.SIGTERM) }
