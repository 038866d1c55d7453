// What the Go clients have in common: it is compiled with the main.go of each.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"
)

const partitions = 3

var (
	broker = os.Getenv("BROKER")
	day    = "86400000"
	// The time of the first record; each of the others is a millisecond later than the one before.
	first = time.Now().Add(-time.Hour).Truncate(time.Millisecond)
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func check(good bool, what ...any) {
	if !good {
		fmt.Println(what...)
		os.Exit(1)
	}
}

// The first lines of the real file; the key of each is its first word.
func lines() []string {
	file, err := os.Open(os.Getenv("INPUT"))
	must(err)
	scanner := bufio.NewScanner(file)
	var all []string
	for scanner.Scan() && len(all) < 2000 {
		all = append(all, scanner.Text())
	}
	return all
}

func key(line string) string {
	return strings.SplitN(line, " ", 2)[0]
}

func timeOf(number int) time.Time {
	return first.Add(time.Duration(number) * time.Millisecond)
}

// Everything sent was read.
func compare(name string, sent []string, read map[int]string) {
	for number, line := range sent {
		check(read[number] == line, name, "record", number)
	}
}

// Says what was shown, for the matrix.
func did(operations ...string) {
	for _, operation := range operations {
		fmt.Println("did", operation)
	}
}
