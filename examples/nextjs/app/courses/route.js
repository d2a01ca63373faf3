import { courses, tagged } from "../../courses.js";

// larder caches, so Next.js must not: its cache would not learn of purges.
export const dynamic = "force-dynamic";

export async function GET() {
  const all = [...courses.values()];
  return tagged(all, ["courses", ...all.map(({ id }) => `course:${id}`)]);
}
