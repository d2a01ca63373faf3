//! The text that `larder demo` prints: requests to try, and what each of them shows.

/// A token as an API would give it, for `ada`; nobody checks its signature here.
pub(super) const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.demo";

pub(super) fn render(proxy: &str, admin: &str, upstream: &str) -> String {
    format!(
        "
larder demo: http://{proxy} in front of a slow sample API (http://{upstream}).
Try these in another terminal, in this order. Watch `cache-status` and the time.

 1  The first request goes to the API (fwd=uri-miss) and is slow; the second is a hit.
      curl -i 'http://{proxy}/api/courses?difficulty=beginner'
      curl -i 'http://{proxy}/api/courses?difficulty=beginner'

 2  A write purges what it changes, before its own response goes back.
      curl -i -X PATCH 'http://{proxy}/api/courses/1' -d '{{\"title\": \"Sourdough, again\"}}'
      curl -i 'http://{proxy}/api/courses?difficulty=beginner'

 3  PURGE a path with all its queries, or a tag.
      curl -i -X PURGE 'http://{proxy}/api/courses'
      curl -i -X PURGE -H 'Cache-Tag: course:1' 'http://{proxy}/'
      curl -i 'http://{proxy}/api/courses?difficulty=beginner'

 4  A hundred concurrent requests for a list that is not cached: the API runs one query.
      curl -s 'http://{proxy}/api/queries'
      seq 100 | xargs -P 100 -I{{}} curl -s -o /dev/null 'http://{proxy}/api/courses?difficulty=advanced'
      curl -s 'http://{proxy}/api/queries'

 5  Each user has their own progress. Enrolling purges the progress of that user only.
      TOKEN={TOKEN}
      curl -i -H \"Authorization: Bearer $TOKEN\" 'http://{proxy}/api/users/me/progress'
      curl -i -H \"Authorization: Bearer $TOKEN\" -X POST 'http://{proxy}/api/courses/2/enroll'
      curl -i -H \"Authorization: Bearer $TOKEN\" 'http://{proxy}/api/users/me/progress'

 6  For operators: statistics, a purge by tag, metrics for Prometheus.
      curl -s 'http://{admin}/stats'
      curl -s 'http://{admin}/purge' -d '{{\"tags\": [\"courses\"]}}'
      curl -s 'http://{admin}/metrics'

`larder stats` and `larder purge --tag courses` do the same; add --admin http://{admin} here.
Ctrl-C ends the demo. `larder demo --print-config` shows its configuration.

"
    )
}
