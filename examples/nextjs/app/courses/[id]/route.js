import { courses, purge, tagged } from "../../../courses.js";

export const dynamic = "force-dynamic";

export async function GET(request, { params }) {
  const course = courses.get(Number((await params).id));
  if (!course) return new Response(null, { status: 404 });
  return tagged(course, [`course:${course.id}`]);
}

export async function PATCH(request, { params }) {
  const course = { id: Number((await params).id), title: (await request.json()).title };
  courses.set(course.id, course);
  await purge("courses", `course:${course.id}`);
  return Response.json(course);
}
