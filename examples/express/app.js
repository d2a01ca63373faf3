// Courses in memory. Responses name their tags, and each change is purged once it is made.
import express from "express";

const admin = process.env.LARDER_ADMIN_URL ?? "http://127.0.0.1:9090";

async function purge(...tags) {
  const body = JSON.stringify({ tags });
  const answer = await fetch(`${admin}/purge`, { method: "POST", body, signal: AbortSignal.timeout(5000) });
  if (!answer.ok) throw new Error(`the purge failed: ${answer.status}`);
}

const courses = new Map([[7, { id: 7, title: "Knots" }]]);
const app = express();
app.use(express.json());

app.get("/courses", (request, response) => {
  const all = [...courses.values()];
  response.set("Surrogate-Key", ["courses", ...all.map(({ id }) => `course:${id}`)].join(" "));
  response.json(all);
});

app.get("/courses/:id", (request, response) => {
  const course = courses.get(Number(request.params.id));
  if (!course) return response.sendStatus(404);
  response.set("Surrogate-Key", `course:${course.id}`).json(course);
});

app.patch("/courses/:id", async (request, response) => {
  const course = { id: Number(request.params.id), title: request.body.title };
  courses.set(course.id, course);
  await purge("courses", `course:${course.id}`);
  response.json(course);
});

app.listen(process.env.PORT ?? 3000, "127.0.0.1");
