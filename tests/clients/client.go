// Go's net/http. Usage: client URL [slow]
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"strings"
	"time"
)

var jar, _ = cookiejar.New(nil)
var client = &http.Client{Jar: jar, Transport: &http.Transport{ExpectContinueTimeout: 5 * time.Second}}

func say(name string, status any, body []byte, more string) {
	fmt.Printf("%s\t%v\t%.8x\t%s\n", name, status, sha256.Sum256(body), more)
}

func ask(method, path string, body io.Reader, fields ...string) (*http.Response, []byte, error) {
	request, _ := http.NewRequest(method, os.Args[1]+path, body)
	for at := 0; at+1 < len(fields); at += 2 {
		request.Header.Set(fields[at], fields[at+1])
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	return answer, content, err
}

func check(name, method, path string, body io.Reader, fields ...string) *http.Response {
	answer, content, err := ask(method, path, body, fields...)
	if err != nil {
		say(name, "error", nil, "")
		return nil
	}
	say(name, answer.StatusCode, content, answer.Header.Get("Content-Range"))
	return answer
}

func checkHeld(name, method string) {
	_, first, _ := ask("GET", "/count", nil)
	_, second, _ := ask("GET", "/count", nil)
	ask(method, "/count", nil)
	_, third, _ := ask("GET", "/count", nil)
	before, after := "fetched", "fresh"
	if bytes.Equal(first, second) {
		before = "held"
	}
	if bytes.Equal(second, third) {
		after = "stale"
	}
	fmt.Println(name + "\t" + before + " " + after)
}

func main() {
	if len(os.Args) > 2 {
		check("shutdown", "GET", "/slow", nil)
		return
	}
	upload := strings.Repeat("0123456789", 20000)
	ask("GET", "/text", nil)
	answer := check("get", "GET", "/text", nil)
	cached := "False"
	if strings.Contains(answer.Header.Get("Cache-Status"), "hit") {
		cached = "True"
	}
	fmt.Println("cached\t" + cached)
	check("304", "GET", "/text", nil, "If-None-Match", "\"1\"")
	check("range", "GET", "/text", nil, "Range", "bytes=700-1399")
	check("head", "HEAD", "/text", nil)
	for _, name := range []string{"gzip", "chunked", "redirect"} {
		check(name, "GET", "/"+name, nil)
	}
	// A client with cookies is a caller of its own.
	checkHeld("purge", "PURGE")
	checkHeld("update", "POST")
	ask("GET", "/set-cookies", nil)
	check("cookies", "GET", "/cookies", nil)
	check("upload", "POST", "/echo", strings.NewReader(upload), "Expect", "100-continue")
	// Without a known length, the content is chunked.
	check("stream", "POST", "/echo", io.MultiReader(strings.NewReader(upload), strings.NewReader(upload)))
	check("continue", "POST", "/echo", strings.NewReader(strings.Repeat("0", 5000000)), "Expect", "100-continue")
	check("events", "GET", "/events", nil)
	check("early", "POST", "/refused", bytes.NewReader(make([]byte, 8000000)))
}
