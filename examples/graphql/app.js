// Courses in memory, by GraphQL. Queries come as GET or POST, mutations as POST. Each resolver adds the tags of what it returns.
import express from "express";
import { buildSchema, graphql } from "graphql";

const admin = process.env.LARDER_ADMIN_URL ?? "http://127.0.0.1:9090";

async function purge(...tags) {
  const body = JSON.stringify({ tags });
  const answer = await fetch(`${admin}/purge`, { method: "POST", body, signal: AbortSignal.timeout(5000) });
  if (!answer.ok) throw new Error(`the purge failed: ${answer.status}`);
}

const schema = buildSchema(`
  type Course { id: Int! title: String! }
  type Query { courses: [Course!]! course(id: Int!): Course }
  type Mutation { rename(id: Int!, title: String!): Course }
`);
const courses = new Map([[7, { id: 7, title: "Knots" }]]);

function tagged(tags, course) {
  if (course) tags.add(`course:${course.id}`);
  return course;
}

const queries = {
  courses: (_, { tags }) => {
    tags.add("courses");
    return [...courses.values()].map((course) => tagged(tags, course));
  },
  course: ({ id }, { tags }) => tagged(tags, courses.get(id)),
};
const mutations = {
  rename: async ({ id, title }) => {
    courses.set(id, { id, title });
    await purge("courses", `course:${id}`);
    return courses.get(id);
  },
};

const app = express();
app.use(express.json());

async function answer(response, source, variableValues, rootValue) {
  const tags = new Set();
  const result = await graphql({ schema, source, variableValues, rootValue, contextValue: { tags } });
  // Errors are not for others.
  if (result.errors) response.set("Cache-Control", "no-store");
  response.set("Surrogate-Key", [...tags].join(" ")).json(result);
}

app.get("/graphql", ({ query }, response) => answer(response, query.query, JSON.parse(query.variables ?? "{}"), queries));
app.post(["/graphql", "/mutations"], ({ body }, response) => answer(response, body.query, body.variables, { ...queries, ...mutations }));
app.listen(process.env.PORT ?? 3000, "127.0.0.1");
