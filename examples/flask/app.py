"""Courses in SQLite. Responses name their tags, and each change is purged after its commit."""

import contextlib
import json
import os
import sqlite3
import urllib.request

from flask import Flask, abort, jsonify, request

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
app = Flask(__name__)


def tagged(content, *tags):
    response = jsonify(content)
    response.headers["Surrogate-Key"] = " ".join(tags)
    return response


@app.get("/courses")
def listed():
    with connect() as database:
        rows = database.execute("SELECT id, title FROM courses").fetchall()
    return tagged([{"id": row[0], "title": row[1]} for row in rows], "courses", *(f"course:{row[0]}" for row in rows))


@app.get("/courses/<int:course>")
def one(course):
    with connect() as database:
        row = database.execute("SELECT title FROM courses WHERE id = ?", [course]).fetchone() or abort(404)
    return tagged({"id": course, "title": row[0]}, f"course:{course}")


@app.patch("/courses/<int:course>")
def change(course):
    title = request.get_json()["title"]
    # The inner block commits.
    with connect() as database, database:
        database.execute("UPDATE courses SET title = ? WHERE id = ?", [title, course])
    purge(f"course:{course}")
    return {"id": course, "title": title}
