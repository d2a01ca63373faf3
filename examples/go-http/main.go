// Courses in memory. Responses name their tags, and each change is purged once it is made.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

type course struct {
	ID    int    `json:"id"`
	Title string `json:"title"`
}

var (
	mutex   sync.Mutex
	courses = map[int]course{7: {7, "Knots"}}
	larder  = http.Client{Timeout: 5 * time.Second}
)

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func purge(tags ...string) error {
	content, _ := json.Marshal(map[string][]string{"tags": tags})
	answer, err := larder.Post(env("LARDER_ADMIN_URL", "http://127.0.0.1:9090")+"/purge", "application/json", bytes.NewReader(content))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the purge failed: %s", answer.Status)
	}
	return nil
}

func write(w http.ResponseWriter, content any, tags ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Surrogate-Key", strings.Join(tags, " "))
	json.NewEncoder(w).Encode(content)
}

func tag(id int) string { return fmt.Sprintf("course:%d", id) }

func list(w http.ResponseWriter, r *http.Request) {
	mutex.Lock()
	defer mutex.Unlock()
	all, tags := []course{}, []string{"courses"}
	for _, course := range courses {
		all, tags = append(all, course), append(tags, tag(course.ID))
	}
	write(w, all, tags...)
}

func change(id int, r *http.Request) error {
	changed := course{ID: id}
	if err := json.NewDecoder(r.Body).Decode(&changed); err != nil {
		return err
	}
	mutex.Lock()
	courses[id] = changed
	mutex.Unlock()
	return purge("courses", tag(id))
}

func one(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/courses/"))
	if r.Method == http.MethodPatch {
		if err := change(id, r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	mutex.Lock()
	found, known := courses[id]
	mutex.Unlock()
	if !known {
		http.NotFound(w, r)
		return
	}
	write(w, found, tag(id))
}

func main() {
	http.HandleFunc("/courses", list)
	http.HandleFunc("/courses/", one)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+env("PORT", "3000"), nil))
}
