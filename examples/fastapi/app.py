"""Courses in SQLite. Responses name their tags, and each change is purged after its commit."""

import contextlib
import json
import os
import sqlite3
import urllib.request

from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel

ADMIN = os.environ.get("LARDER_ADMIN_URL", "http://127.0.0.1:9090")
DATABASE = os.environ.get("DATABASE", "courses.sqlite")


def purge(*tags):
    content = json.dumps({"tags": tags}).encode()
    urllib.request.urlopen(urllib.request.Request(ADMIN + "/purge", content), timeout=5).close()


def connect():
    """A connection for one request: threads share none."""
    return contextlib.closing(sqlite3.connect(DATABASE))


with connect() as database, database:
    database.execute("CREATE TABLE IF NOT EXISTS courses (id INTEGER PRIMARY KEY, title TEXT)")
    database.execute("INSERT OR IGNORE INTO courses VALUES (7, 'Knots')")
app = FastAPI()


class Course(BaseModel):
    title: str


@app.get("/courses")
def listed(response: Response):
    with connect() as database:
        rows = database.execute("SELECT id, title FROM courses").fetchall()
    response.headers["Surrogate-Key"] = " ".join(["courses", *(f"course:{row[0]}" for row in rows)])
    return [{"id": row[0], "title": row[1]} for row in rows]


@app.get("/courses/{course}")
def one(course: int, response: Response):
    with connect() as database:
        row = database.execute("SELECT title FROM courses WHERE id = ?", [course]).fetchone()
    if row is None:
        raise HTTPException(404)
    response.headers["Surrogate-Key"] = f"course:{course}"
    return {"id": course, "title": row[0]}


@app.patch("/courses/{course}")
def change(course: int, changed: Course):
    # The inner block commits.
    with connect() as database, database:
        database.execute("UPDATE courses SET title = ? WHERE id = ?", [changed.title, course])
    purge(f"course:{course}")
    return {"id": course, "title": changed.title}
