//! What the demo prints: the requests to try, and what each of them shows.

/// A token as an API would give it, for `ada`; nobody checks its signature here.
pub const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.demo";

pub fn written(proxy: &str, admin: &str, upstream: &str) -> String {
    format!(
        "
larder demo: http://{proxy} in front of a slow sample API (http://{upstream}).
Try these in another terminal, in this order. Look at `cache-status` and at the time.

 1  The first request goes to the API (fwd=uri-miss) and takes its time; the second is a hit, with its age.
      curl -i 'http://{proxy}/api/courses?difficulty=beginner'
      curl -i 'http://{proxy}/api/courses?difficulty=beginner'

 2  A write that passes purges what it changes, before its own answer goes back.
      curl -i -X PATCH 'http://{proxy}/api/courses/1' -d '{{\"title\": \"Sourdough, again\"}}'
      curl -i 'http://{proxy}/api/courses?difficulty=beginner'

 3  PURGE: one path with all its queries, or a tag.
      curl -i -X PURGE 'http://{proxy}/api/courses'
      curl -i -X PURGE -H 'Cache-Tag: course:1' 'http://{proxy}/'
      curl -i 'http://{proxy}/api/courses?difficulty=beginner'

 4  A hundred requests at once for a list that nobody has asked for yet: the API answers one query.
      curl -s 'http://{proxy}/api/queries'
      seq 100 | xargs -P 100 -I{{}} curl -s -o /dev/null 'http://{proxy}/api/courses?difficulty=advanced'
      curl -s 'http://{proxy}/api/queries'

 5  Each user has their own progress; enrolling purges it, and nobody else's.
      TOKEN={TOKEN}
      curl -i -H \"Authorization: Bearer $TOKEN\" 'http://{proxy}/api/users/me/progress'
      curl -i -H \"Authorization: Bearer $TOKEN\" -X POST 'http://{proxy}/api/courses/2/enroll'
      curl -i -H \"Authorization: Bearer $TOKEN\" 'http://{proxy}/api/users/me/progress'

 6  For operators: statistics, a purge from outside, metrics for Prometheus.
      curl -s 'http://{admin}/stats'
      curl -s 'http://{admin}/purge' -d '{{\"tags\": [\"courses\"]}}'
      curl -s 'http://{admin}/metrics'

`larder stats` and `larder purge --tag courses` do the same, with --admin http://{admin} here.
Ctrl-C ends the demo; `larder demo --print-config` shows its configuration.

"
    )
}
