# Courses in SQLite, as a Rails application in one file. Responses name their tags, and each commit purges.
require "action_controller/railtie"
require "active_record"
require "logger"
require "net/http"

module Larder
  ADMIN = URI("#{ENV.fetch("LARDER_ADMIN_URL", "http://127.0.0.1:9090")}/purge")

  def self.purge(*tags)
    answer = Net::HTTP.start(ADMIN.host, ADMIN.port, open_timeout: 5, read_timeout: 5) do |http|
      http.post(ADMIN.path, {tags: tags}.to_json)
    end
    raise "the purge failed: #{answer.code}" unless answer.is_a?(Net::HTTPOK)
  end
end

ActiveRecord::Base.establish_connection(adapter: "sqlite3", database: ENV.fetch("DATABASE", "courses.sqlite"))
ActiveRecord::Schema.define { create_table(:courses, if_not_exists: true) { |table| table.string :title } }

class Course < ActiveRecord::Base
  # Consoles and jobs purge, too.
  after_commit { Larder.purge("courses", tag) }

  def tag = "course:#{id}"
end

class CoursesController < ActionController::API
  def index
    courses = Course.order(:id)
    response.headers["Surrogate-Key"] = ["courses", *courses.map(&:tag)].join(" ")
    render json: courses
  end

  def show
    course = Course.find(params[:id])
    response.headers["Surrogate-Key"] = course.tag
    render json: course
  end

  def update
    course = Course.find(params[:id])
    course.update!(title: params[:title])
    render json: course
  end
end

class Shop < Rails::Application
  config.load_defaults 6.1
  config.eager_load = false
  config.hosts.clear
  config.secret_key_base = ENV.fetch("SECRET_KEY_BASE", "only for the example")
  config.logger = Logger.new($stderr, level: :warn)
  routes.append { resources :courses, only: %i[index show update] }
end

Shop.initialize!
Course.insert({id: 7, title: "Knots"}) unless Course.exists?(7)
run Shop
