package network

import "os"

const crashEnv = "LONGSHORE_NETWORK_TEST_CRASH"

func crashChild(string) { os.Exit(3) }
