"""A small ice-cream shop in Flask with SQLAlchemy that keeps everpage up to date.

DATABASE=shop.sqlite3 EVERPAGE_ADMIN_URL=http://127.0.0.1:8081 EVERPAGE_TOKEN=... flask --app app run --port 8000
"""

import os
from urllib.parse import quote

import everpage_sqlalchemy
from flask import Flask, abort, request
from markupsafe import escape
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker


class Base(DeclarativeBase):
    pass


class IceCream(Base):
    __tablename__ = "ice_cream"
    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    price: Mapped[str]

    def dependent_paths(self):
        return ["/ice-cream/", f"/ice-cream/{quote(self.slug)}/"]


engine = create_engine("sqlite:///" + os.environ["DATABASE"])
Base.metadata.create_all(engine)
Sessions = sessionmaker(engine)
everpage_sqlalchemy.watch(Sessions)
app = Flask(__name__)


@app.get("/ice-cream/")
def menu():
    with Sessions() as session:
        rows = session.scalars(select(IceCream).order_by(IceCream.name))
        return "".join(f"<p>{escape(row.name)} {escape(row.price)}</p>" for row in rows)


@app.get("/ice-cream/<slug>/")
def one(slug):
    with Sessions() as session:
        row = session.scalar(select(IceCream).filter_by(slug=slug)) or abort(404)
        return f"<h1>{escape(row.name)}</h1><p>{escape(row.price)}</p>"


@app.post("/ice-cream/")
def add():
    with Sessions.begin() as session:
        session.add(IceCream(**request.form))
    return "", 201


@app.post("/ice-cream/<slug>/")
def change(slug):
    with Sessions.begin() as session:
        row = session.scalar(select(IceCream).filter_by(slug=slug)) or abort(404)
        for field in request.form.keys() & {"slug", "name", "price"}:
            setattr(row, field, request.form[field])
        session.flush()
        if request.form.get("price") == "free":
            abort(422)  # The transaction rolls back.
    return "", 204


@app.post("/sale/")
def sale():
    with Sessions.begin() as session:
        for row in session.scalars(select(IceCream)):
            row.price = request.form["price"]
    return "", 204


@app.post("/ice-cream/<slug>/delete/")
def delete(slug):
    with Sessions.begin() as session:
        session.delete(session.scalar(select(IceCream).filter_by(slug=slug)) or abort(404))
    return "", 204
